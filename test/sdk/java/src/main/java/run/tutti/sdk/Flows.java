package run.tutti.sdk;

import static run.tutti.sdk.Harness.equal;
import static run.tutti.sdk.Harness.eventually;

import com.netflix.conductor.client.http.ConductorClient;
import com.netflix.conductor.client.http.MetadataClient;
import com.netflix.conductor.client.http.TaskClient;
import com.netflix.conductor.client.http.WorkflowClient;
import com.netflix.conductor.common.metadata.tasks.TaskDef;
import com.netflix.conductor.common.metadata.tasks.TaskResult;
import com.netflix.conductor.common.metadata.workflow.StartWorkflowRequest;
import com.netflix.conductor.common.run.Workflow;
import com.netflix.conductor.sdk.workflow.def.ConductorWorkflow;
import com.netflix.conductor.sdk.workflow.def.WorkflowBuilder;
import com.netflix.conductor.sdk.workflow.def.tasks.SimpleTask;
import com.netflix.conductor.sdk.workflow.def.tasks.Task;
import com.netflix.conductor.sdk.workflow.executor.WorkflowExecutor;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/** The clients of the SDK and what every scenario does with them. */
final class Flows implements AutoCloseable {
    final ConductorClient client;
    final WorkflowClient workflows;
    final TaskClient tasks;
    final MetadataClient metadata;
    final WorkflowExecutor executor;

    Flows(String url) {
        client = new ConductorClient(url);
        workflows = new WorkflowClient(client);
        tasks = new TaskClient(client);
        metadata = new MetadataClient(client);
        executor = new WorkflowExecutor(tasks, workflows, metadata, 20);
    }

    @Override
    public void close() {
        executor.shutdown();
        workflows.close();
        client.shutdown();
    }

    /** Registers a task definition after the settings were made to it. */
    void defineTask(String name, Consumer<TaskDef> settings) {
        TaskDef def = new TaskDef(name);
        def.setRetryDelaySeconds(0);
        def.setResponseTimeoutSeconds(60);
        def.setTimeoutSeconds(0);
        settings.accept(def);
        metadata.registerTaskDefs(List.of(def));
    }

    /** Registers a workflow of the tasks with the SDK's builder. */
    ConductorWorkflow<Object> define(String name, Map<String, Object> output, Task<?>... steps)
            throws Exception {
        WorkflowBuilder<Object> builder = builder(name).add(steps);
        output.forEach(builder::output);
        ConductorWorkflow<Object> flow = builder.build();
        equal(flow.registerWorkflow(true, true), true, "registration of " + name);
        return flow;
    }

    WorkflowBuilder<Object> builder(String name) {
        return new WorkflowBuilder<>(executor).name(name).version(1)
                .timeoutPolicy(com.netflix.conductor.common.metadata.workflow.WorkflowDef
                        .TimeoutPolicy.ALERT_ONLY, 0);
    }

    static SimpleTask echo(String ref, Object value) {
        return new SimpleTask("java_echo", ref).input("v", value);
    }

    static StartWorkflowRequest request(String name, Map<String, Object> input) {
        StartWorkflowRequest request = new StartWorkflowRequest();
        request.setName(name);
        request.setVersion(1);
        request.setInput(input);
        return request;
    }

    String start(String name, Map<String, Object> input) {
        return workflows.startWorkflow(request(name, input));
    }

    /** Waits until the run is over, asserts its status and returns it with its tasks. */
    Workflow finished(String id, Workflow.WorkflowStatus status) throws Exception {
        eventually(() -> workflows.getWorkflow(id, false).getStatus().isTerminal(), id + " ends");
        Workflow run = workflows.getWorkflow(id, true);
        if (run.getStatus() != status) {
            StringBuilder shown = new StringBuilder();
            run.getTasks().forEach(t -> shown.append(' ').append(t.getReferenceTaskName())
                    .append('=').append(t.getStatus()).append(':')
                    .append(t.getReasonForIncompletion()));
            throw new AssertionError(id + ": " + run.getStatus() + " ("
                    + run.getReasonForIncompletion() + "), want " + status + ":" + shown);
        }
        return run;
    }

    Workflow completed(String id) throws Exception {
        return finished(id, Workflow.WorkflowStatus.COMPLETED);
    }

    static List<com.netflix.conductor.common.metadata.tasks.Task> attempts(
            Workflow run, String ref) {
        return run.getTasks().stream().filter(t -> t.getReferenceTaskName().equals(ref)).toList();
    }

    static com.netflix.conductor.common.metadata.tasks.Task only(Workflow run, String ref) {
        List<com.netflix.conductor.common.metadata.tasks.Task> found = attempts(run, ref);
        equal(found.size(), 1, "attempts of " + ref);
        return found.get(0);
    }

    static List<String> refs(Workflow run) {
        return run.getTasks().stream().map(t -> t.getReferenceTaskName()).toList();
    }

    /** Waits until the run has a task ref in progress and returns it. */
    com.netflix.conductor.common.metadata.tasks.Task waitsAt(String id, String ref)
            throws Exception {
        return eventually(() -> attempts(workflows.getWorkflow(id, true), ref).stream()
                .filter(t -> !t.getStatus().isTerminal()).findFirst().orElse(null),
                id + " waits at " + ref);
    }

    /** Waits for a task of the type to poll. */
    com.netflix.conductor.common.metadata.tasks.Task poll(String type, String worker)
            throws Exception {
        return eventually(() -> tasks.pollTask(type, worker, null), "a task " + type);
    }

    void answer(com.netflix.conductor.common.metadata.tasks.Task task, TaskResult.Status status,
            Map<String, Object> output) {
        TaskResult result = new TaskResult(task);
        result.setStatus(status);
        result.setOutputData(output);
        tasks.updateTask(result);
    }
}

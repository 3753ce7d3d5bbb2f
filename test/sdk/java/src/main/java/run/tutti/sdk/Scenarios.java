package run.tutti.sdk;

import static run.tutti.sdk.Flows.attempts;
import static run.tutti.sdk.Flows.echo;
import static run.tutti.sdk.Flows.only;
import static run.tutti.sdk.Flows.refs;
import static run.tutti.sdk.Flows.request;
import static run.tutti.sdk.Harness.equal;
import static run.tutti.sdk.Harness.eventually;
import static run.tutti.sdk.Harness.refused;

import com.netflix.conductor.common.metadata.tasks.Task;
import com.netflix.conductor.common.metadata.tasks.TaskDef;
import com.netflix.conductor.common.metadata.tasks.TaskResult;
import com.netflix.conductor.common.metadata.workflow.RerunWorkflowRequest;
import com.netflix.conductor.common.metadata.workflow.StartWorkflowRequest;
import com.netflix.conductor.common.metadata.workflow.WorkflowDef;
import com.netflix.conductor.common.metadata.workflow.WorkflowTask;
import com.netflix.conductor.common.run.SearchResult;
import com.netflix.conductor.common.run.Workflow;
import com.netflix.conductor.common.run.Workflow.WorkflowStatus;
import com.netflix.conductor.common.run.WorkflowSummary;
import com.netflix.conductor.sdk.workflow.def.ConductorWorkflow;
import com.netflix.conductor.sdk.workflow.def.tasks.SimpleTask;
import com.netflix.conductor.sdk.workflow.def.tasks.Wait;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.conductoross.conductor.common.model.Consistency;
import org.conductoross.conductor.common.model.ReturnStrategy;
import org.conductoross.conductor.common.model.SignalResponse;
import org.conductoross.conductor.common.model.WorkflowRun;

/**
 * Runs the scenarios with the official Java SDK, unchanged, against CONDUCTOR_SERVER_URL. Exits
 * with status 1 when one fails. With arguments, runs only the scenarios of these names.
 */
public final class Scenarios {
    private final Flows flows;

    private Scenarios(Flows flows) {
        this.flows = flows;
    }

    public static void main(String[] args) throws Exception {
        int failed;
        try (Flows flows = new Flows(System.getenv("CONDUCTOR_SERVER_URL"))) {
            flows.defineTask("java_echo", def -> {});
            flows.executor.initWorkersFromInstances(List.of(new Workers()));
            Harness harness = Harness.create();
            new Scenarios(flows).register(harness);
            new TaskScenarios(flows).register(harness);
            failed = harness.runAll(List.of(args));
        }
        System.exit(failed == 0 ? 0 : 1);
    }

    private void register(Harness harness) {
        harness.scenario("definitions", this::definitions);
        harness.scenario("happy_path", this::happyPath);
        harness.scenario("retry_until_success", this::retryUntilSuccess);
        harness.scenario("terminal_failure", this::terminalFailure);
        harness.scenario("response_timeout", this::responseTimeout);
        harness.scenario("task_and_workflow_timeout", this::timeouts);
        harness.scenario("terminate", this::terminate);
        harness.scenario("pause_and_resume", this::pauseAndResume);
        harness.scenario("restart", this::restart);
        harness.scenario("retry", this::retry);
        harness.scenario("rerun", this::rerun);
        harness.scenario("search", this::search);
        harness.scenario("execute_sync", this::executeSync);
        harness.scenario("wait_and_human", this::waitAndHuman);
        harness.scenario("signals", this::signals);
        harness.scenario("skip_and_bulk", this::skipAndBulk);
        harness.scenario("idempotency", this::idempotency);
        harness.scenario("errors", this::errors);
    }

    private void definitions() throws Exception {
        flows.defineTask("java_defined", def -> {
            def.setDescription("first");
            def.setRetryCount(2);
        });
        TaskDef got = flows.metadata.getTaskDef("java_defined");
        equal(List.of(got.getDescription(), got.getRetryCount()), List.of("first", 2), "task");
        got.setDescription("second");
        flows.metadata.updateTaskDef(got);
        equal(flows.metadata.getTaskDef("java_defined").getDescription(), "second", "updated");
        equal(flows.metadata.getAllTaskDefs().stream()
                .anyMatch(t -> t.getName().equals("java_defined")), true, "listed");
        flows.metadata.unregisterTaskDef("java_defined");
        refused(() -> flows.metadata.getTaskDef("java_defined"), 404, "a removed definition");

        WorkflowTask step = new WorkflowTask();
        step.setName("java_echo");
        step.setTaskReferenceName("one");
        WorkflowDef first = new WorkflowDef();
        first.setName("java_definitions");
        first.setDescription("v1");
        first.setOwnerEmail("someone@example.com");
        first.setTasks(List.of(step));
        flows.metadata.registerWorkflowDef(first);
        refused(() -> flows.metadata.registerWorkflowDef(first), 409, "the same version again");
        first.setVersion(2);
        first.setDescription("v2");
        flows.metadata.updateWorkflowDefs(List.of(first));
        equal(flows.metadata.getWorkflowDef("java_definitions", null).getVersion(), 2, "latest");
        equal(flows.metadata.getWorkflowDef("java_definitions", 1).getDescription(), "v1", "v1");
        equal(flows.metadata.getAllWorkflowsWithLatestVersions().stream()
                .filter(w -> w.getName().equals("java_definitions"))
                .map(WorkflowDef::getVersion).toList(), List.of(2), "latest versions");
        flows.metadata.unregisterWorkflowDef("java_definitions", 2);
        equal(flows.metadata.getWorkflowDef("java_definitions", null).getVersion(), 1, "left");
        first.setName("java_twice");
        first.setTasks(List.of(step, step));
        String message =
                refused(() -> flows.metadata.registerWorkflowDef(first), 400, "used twice");
        equal(message.contains("Validation failed") || message.contains("unique"), true, message);
    }

    private void happyPath() throws Exception {
        ConductorWorkflow<Object> flow = flows.define("java_happy",
                Map.of("said", "${hello.output.greeting}", "v", "${again.output.echo.v}"),
                new SimpleTask("java_greet", "hello").input("name", "${workflow.input.name}"),
                echo("again", "${hello.output.greeting}"));
        StartWorkflowRequest request = request("java_happy", Map.of("name", "Ada"));
        request.setCorrelationId("java-happy");
        request.setPriority(7);
        Workflow run = flows.completed(flows.workflows.startWorkflow(request));
        equal(run.getOutput(), Map.of("said", "hello Ada", "v", "hello Ada"), "output");
        equal(refs(run), List.of("hello", "again"), "order");
        equal(run.getTasks().stream().map(Task::getSeq).toList(), List.of(1, 2), "sequence");
        equal(run.getCorrelationId() + run.getPriority(), "java-happy7", "run");
        equal(run.getTasks().get(0).getPollCount(), 1, "polls");
        equal(run.getTasks().get(0).getWorkerId() != null, true, "worker is named");

        Workflow future = flows.executor.executeWorkflow("java_happy", 1, Map.of("name", "Bea"))
                .get(30, TimeUnit.SECONDS);
        equal(future.getOutput().get("said"), "hello Bea", "by the executor");
        Workflow dynamic = flow.executeDynamic(Map.of("name", "Cy")).get(30, TimeUnit.SECONDS);
        equal(dynamic.getOutput().get("said"), "hello Cy", "without a registered definition");
    }

    private void retryUntilSuccess() throws Exception {
        flows.defineTask("java_flaky", def -> {
            def.setRetryCount(3);
            def.setRetryDelaySeconds(1);
        });
        flows.define("java_retries", Map.of(),
                new SimpleTask("java_flaky", "try").input("failures", "${workflow.input.n}"));
        Workflow run = flows.completed(flows.start("java_retries", Map.of("n", 2)));
        List<Task> found = attempts(run, "try");
        equal(found.stream().map(Task::getStatus).toList(), List.of(Task.Status.FAILED,
                Task.Status.FAILED, Task.Status.COMPLETED), "attempts");
        equal(found.stream().map(Task::getRetryCount).toList(), List.of(0, 1, 2), "counts");
        equal(found.get(1).getRetriedTaskId(), found.get(0).getTaskId(), "link");
        equal(found.get(0).getReasonForIncompletion(), "attempt 0 fails", "reason");
        long waited = found.get(1).getStartTime() - found.get(0).getEndTime();
        equal(waited >= 900 && waited <= 5000, true, "a delay of 1s took " + waited + "ms");
        equal(run.getOutput(), Map.of("attempt", 2), "output");
    }

    private void terminalFailure() throws Exception {
        flows.defineTask("java_fatal", def -> def.setRetryCount(3));
        flows.define("java_terminal", Map.of(), new SimpleTask("java_fatal", "die"));
        Workflow run =
                flows.finished(flows.start("java_terminal", Map.of()), WorkflowStatus.FAILED);
        equal(only(run, "die").getStatus(), Task.Status.FAILED_WITH_TERMINAL_ERROR, "status");
        equal(run.getReasonForIncompletion().contains("no attempt can help"), true, "reason");
    }

    private void responseTimeout() throws Exception {
        flows.defineTask("java_unattended", def -> {
            def.setRetryCount(1);
            def.setResponseTimeoutSeconds(1);
        });
        flows.define("java_deserted", Map.of(), new SimpleTask("java_unattended", "lost"));
        String id = flows.start("java_deserted", Map.of());
        Task first = flows.poll("java_unattended", "dies");
        Task second = flows.poll("java_unattended", "lives");
        equal(second.getRetryCount() + second.getRetriedTaskId(), 1 + first.getTaskId(), "second");
        flows.answer(first, TaskResult.Status.COMPLETED, Map.of("from", "the dead"));
        flows.answer(second, TaskResult.Status.COMPLETED, Map.of("from", "the living"));
        Workflow run = flows.completed(id);
        equal(attempts(run, "lost").stream().map(Task::getStatus).toList(),
                List.of(Task.Status.TIMED_OUT, Task.Status.COMPLETED), "attempts");
        equal(run.getOutput(), Map.of("from", "the living"), "output");
    }

    private void timeouts() throws Exception {
        flows.defineTask("java_limited", def -> {
            def.setRetryCount(0);
            def.setTimeoutSeconds(1);
            def.setResponseTimeoutSeconds(1);
            def.setTimeoutPolicy(TaskDef.TimeoutPolicy.TIME_OUT_WF);
        });
        flows.define("java_task_timeout", Map.of(), new SimpleTask("java_limited", "late"));
        String id = flows.start("java_task_timeout", Map.of());
        flows.poll("java_limited", "slow");
        Workflow run = flows.finished(id, WorkflowStatus.TIMED_OUT);
        equal(only(run, "late").getStatus(), Task.Status.TIMED_OUT, "task");

        flows.builder("java_flow_timeout").timeoutPolicy(WorkflowDef.TimeoutPolicy.TIME_OUT_WF, 1)
                .add(new Wait("forever")).build().registerWorkflow(true);
        run = flows.finished(flows.start("java_flow_timeout", Map.of()),
                WorkflowStatus.TIMED_OUT);
        equal(only(run, "forever").getStatus(), Task.Status.CANCELED, "the task that waited");
    }

    private void terminate() throws Exception {
        flows.define("java_waits", Map.of(), new Wait("gate"), echo("after", 1));
        String id = flows.start("java_waits", Map.of());
        flows.waitsAt(id, "gate");
        flows.workflows.terminateWorkflow(id, "enough");
        Workflow run = flows.finished(id, WorkflowStatus.TERMINATED);
        equal(run.getReasonForIncompletion(), "enough", "reason");
        equal(only(run, "gate").getStatus(), Task.Status.CANCELED, "task");
        flows.workflows.terminateWorkflow(id, "again");
        Workflow done = flows.completed(flows.start("java_happy", Map.of("name", "Eve")));
        refused(() -> flows.workflows.terminateWorkflow(done.getWorkflowId(), "late"), 409,
                "terminate a finished run");
    }

    private void pauseAndResume() throws Exception {
        String id = flows.start("java_waits", Map.of());
        flows.waitsAt(id, "gate");
        flows.workflows.pauseWorkflow(id);
        equal(flows.workflows.getWorkflow(id, false).getStatus(), WorkflowStatus.PAUSED, "status");
        flows.tasks.updateTask(id, "gate", TaskResult.Status.COMPLETED, Map.of("opened", true));
        equal(refs(flows.workflows.getWorkflow(id, true)), List.of("gate"), "while paused");
        flows.workflows.resumeWorkflow(id);
        Workflow run = flows.completed(id);
        equal(only(run, "gate").getOutputData(), Map.of("opened", true), "gate");
        equal(only(run, "after").getOutputData().get("echo"), Map.of("v", 1), "after");
    }

    private void restart() throws Exception {
        Workflow before = flows.completed(flows.start("java_happy", Map.of("name", "Bob")));
        flows.workflows.restart(before.getWorkflowId(), false);
        Workflow after = eventually(() -> {
            Workflow run = flows.workflows.getWorkflow(before.getWorkflowId(), true);
            boolean fresh = !run.getTasks().isEmpty() && !run.getTasks().get(0).getTaskId()
                    .equals(before.getTasks().get(0).getTaskId());
            return run.getStatus() == WorkflowStatus.COMPLETED && fresh ? run : null;
        }, "second run");
        equal(after.getOutput(), before.getOutput(), "output");
        equal(after.getTasks().size(), 2, "tasks of the second run only");
        String id = flows.start("java_waits", Map.of());
        flows.waitsAt(id, "gate");
        refused(() -> flows.workflows.restart(id, false), 409, "restart of a running run");
        flows.workflows.terminateWorkflow(id, "done");
    }

    private void retry() throws Exception {
        flows.defineTask("java_fragile", def -> def.setRetryCount(0));
        flows.define("java_retry", Map.of(), echo("first", "${workflow.input.v}"),
                new SimpleTask("java_fragile", "second"));
        String id = flows.start("java_retry", Map.of("v", 5));
        Task broken = flows.poll("java_fragile", "one");
        flows.answer(broken, TaskResult.Status.FAILED, Map.of());
        Workflow failed = flows.finished(id, WorkflowStatus.FAILED);
        flows.workflows.retryLastFailedTask(id);
        Task mended = flows.poll("java_fragile", "two");
        equal(mended.getRetriedTaskId(), broken.getTaskId(), "retried task");
        flows.answer(mended, TaskResult.Status.COMPLETED, Map.of("ok", true));
        Workflow run = flows.completed(id);
        equal(only(run, "first").getTaskId(), only(failed, "first").getTaskId(), "what was done");
        equal(attempts(run, "second").stream().map(Task::getRetryCount).toList(), List.of(0, 1),
                "attempts");
    }

    private void rerun() throws Exception {
        flows.define("java_chain", Map.of("v", "${c.output.echo.v}"),
                echo("a", "${workflow.input.v}"), echo("b", "${a.output.echo.v}"),
                echo("c", "${b.output.echo.v}"));
        Workflow before = flows.completed(flows.start("java_chain", Map.of("v", 1)));
        String id = before.getWorkflowId();
        RerunWorkflowRequest fromB = new RerunWorkflowRequest();
        fromB.setReRunFromTaskId(only(before, "b").getTaskId());
        fromB.setTaskInput(Map.of("v", 2));
        equal(flows.workflows.rerunWorkflow(id, fromB), id, "the id");
        Workflow after = endsWith(id, 2);
        equal(only(after, "a").getTaskId(), only(before, "a").getTaskId(), "a is not run again");
        RerunWorkflowRequest all = new RerunWorkflowRequest();
        all.setWorkflowInput(Map.of("v", 3));
        flows.workflows.rerunWorkflow(id, all);
        endsWith(id, 3);
    }

    private Workflow endsWith(String id, int v) throws Exception {
        return eventually(() -> {
            Workflow run = flows.workflows.getWorkflow(id, true);
            boolean ended = run.getStatus() == WorkflowStatus.COMPLETED;
            return ended && Map.of("v", v).equals(run.getOutput()) ? run : null;
        }, "a rerun that ends with " + v);
    }

    private void search() throws Exception {
        String stamp = Long.toString(System.nanoTime());
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            StartWorkflowRequest request = request("java_chain", Map.of("v", i));
            request.setCorrelationId(stamp + "-" + i % 2);
            ids.add(flows.workflows.startWorkflow(request));
        }
        for (String id : ids) {
            flows.completed(id);
        }
        String mine = "correlationId IN (" + stamp + "-0," + stamp + "-1)";
        eventually(() -> found(mine).size() == 5, "all five");
        equal(new HashSet<>(found(mine)), Set.copyOf(ids), "by correlation");
        equal(found("workflowType = 'java_chain' AND correlationId = '" + stamp + "-0'").size(), 3,
                "equality");
        equal(found(mine + " AND status IN (FAILED,TERMINATED)"), List.of(), "other statuses");
        List<String> paged = new ArrayList<>();
        for (int at = 0; at < 6; at += 2) {
            SearchResult<WorkflowSummary> page =
                    flows.workflows.search(at, 2, "startTime:ASC", "*", mine);
            equal(page.getTotalHits(), 5L, "hits");
            page.getResults().forEach(s -> paged.add(s.getWorkflowId()));
        }
        equal(paged, ids, "pages, oldest first");
        SearchResult<Workflow> whole =
                flows.workflows.searchV2(0, 10, "startTime:DESC", "*", mine);
        equal(whole.getResults().get(0).getWorkflowId(), ids.get(4), "whole runs, newest first");
        equal(flows.workflows.getWorkflows("java_chain", stamp + "-1", true, true).size(), 2,
                "by correlation id");
        equal(flows.workflows.getWorkflowsByNamesAndCorrelationIds(List.of(stamp + "-0"),
                List.of("java_chain"), true, false).get(stamp + "-0").size(), 3, "in batch");
        equal(flows.tasks.search("workflowId = '" + ids.get(0) + "'").getResults().size(), 3,
                "tasks");
    }

    private List<String> found(String query) {
        return flows.workflows.search(query).getResults().stream()
                .map(WorkflowSummary::getWorkflowId).toList();
    }

    private void executeSync() throws Exception {
        WorkflowRun run = flows.workflows.executeWorkflow(
                request("java_happy", Map.of("name", "Max")), "", 20).get(30, TimeUnit.SECONDS);
        equal(run.getStatus(), WorkflowStatus.COMPLETED, "status");
        equal(run.getOutput().get("said"), "hello Max", "output");
        flows.define("java_waits_later", Map.of(), echo("early", 1), new Wait("judge"));
        WorkflowRun until = flows.workflows.executeWorkflow(
                request("java_waits_later", Map.of()), List.of("early"), 20)
                .get(30, TimeUnit.SECONDS);
        equal(until.getStatus(), WorkflowStatus.RUNNING, "until a task");
        equal(until.getTasks().get(0).getStatus(), Task.Status.COMPLETED, "the task");
        flows.workflows.terminateWorkflow(until.getWorkflowId(), "done");
    }

    private void waitAndHuman() throws Exception {
        String id = flows.start("java_waits_later", Map.of());
        flows.waitsAt(id, "judge");
        flows.tasks.updateTask(id, "judge", TaskResult.Status.IN_PROGRESS, Map.of("said", "so"));
        equal(flows.waitsAt(id, "judge").getOutputData().get("said"), "so", "while in progress");
        Workflow answer = flows.tasks.updateTaskSync(id, "judge", TaskResult.Status.COMPLETED,
                Map.of("by", "me"));
        equal(answer.getWorkflowId(), id, "answer of the synchronous update");
        equal(only(flows.completed(id), "judge").getOutputData(),
                Map.of("said", "so", "by", "me"), "merged output");
        flows.define("java_sleeps", Map.of(), new Wait("nap", Duration.ofSeconds(1)));
        Task nap = only(flows.completed(flows.start("java_sleeps", Map.of())), "nap");
        long took = nap.getEndTime() - nap.getStartTime();
        equal(took >= 900 && took <= 3000, true, "a wait of 1s took " + took + "ms");
    }

    private void signals() throws Exception {
        flows.define("java_two_gates", Map.of("last", "${two.output.key}"), new Wait("one"),
                echo("mid", 1), new Wait("two"));
        SignalResponse first = flows.workflows.executeWorkflowWithReturnStrategy(
                request("java_two_gates", Map.of()), null, 20, Consistency.DURABLE,
                ReturnStrategy.BLOCKING_TASK).get(30, TimeUnit.SECONDS);
        equal(first.isBlockingTask(), true, "kind of answer");
        equal(first.getBlockingTask().getReferenceTaskName(), "one", "blocks at");
        String id = first.getTargetWorkflowId();
        SignalResponse second = flows.tasks.signal(id, Task.Status.COMPLETED, Map.of("key", "a"),
                ReturnStrategy.BLOCKING_TASK_INPUT);
        equal(second.getReferenceTaskName(), "two", "after the first signal");
        flows.tasks.signalAsync(id, Task.Status.COMPLETED, Map.of("key", "b"));
        Workflow run = flows.completed(id);
        equal(only(run, "one").getOutputData(), Map.of("key", "a"), "first");
        equal(run.getOutput(), Map.of("last", "b"), "second");
        refused(() -> flows.tasks.signal(id, Task.Status.COMPLETED, Map.of()), 404, "no gate");
    }

    private void skipAndBulk() throws Exception {
        String id = flows.start("java_waits", Map.of());
        flows.waitsAt(id, "gate");
        flows.workflows.skipTaskFromWorkflow(id, "after");
        flows.tasks.updateTask(id, "gate", TaskResult.Status.COMPLETED, Map.of());
        equal(only(flows.completed(id), "after").getStatus(), Task.Status.SKIPPED, "task");

        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            ids.add(flows.start("java_waits", Map.of()));
        }
        equal(Set.copyOf(flows.workflows.pauseWorkflows(ids).getBulkSuccessfulResults()),
                Set.copyOf(ids), "paused");
        flows.workflows.resumeWorkflows(ids);
        flows.workflows.terminateWorkflows(ids, "all");
        for (String each : ids) {
            flows.finished(each, WorkflowStatus.TERMINATED);
        }
        flows.workflows.restartWorkflows(ids, false);
        for (String each : ids) {
            flows.waitsAt(each, "gate");
        }
        flows.workflows.terminateWorkflows(ids, "again");
        for (String each : ids) {
            flows.workflows.deleteWorkflow(each, false);
            refused(() -> flows.workflows.getWorkflow(each, false), 404, "removed");
        }
    }

    private void idempotency() throws Exception {
        StartWorkflowRequest request = request("java_waits", Map.of());
        request.setIdempotencyKey("once-" + System.nanoTime());
        request.setIdempotencyStrategy(com.netflix.conductor.common.metadata.workflow
                .IdempotencyStrategy.RETURN_EXISTING);
        String first = flows.workflows.startWorkflow(request);
        equal(flows.workflows.startWorkflow(request), first, "the same run");
        request.setIdempotencyStrategy(
                com.netflix.conductor.common.metadata.workflow.IdempotencyStrategy.FAIL);
        refused(() -> flows.workflows.startWorkflow(request), 409, "the same key with FAIL");
        flows.workflows.terminateWorkflow(first, "done");
    }

    private void errors() throws Exception {
        refused(() -> flows.workflows.getWorkflow("no-such-run", true), 404, "unknown run");
        refused(() -> flows.start("java_no_such_definition", Map.of()), 404, "unknown name");
        refused(() -> flows.tasks.getTaskDetails("no-such-task"), 404, "unknown task");
        refused(() -> flows.workflows.pauseWorkflow("no-such-run"), 404, "unknown run");
        refused(() -> flows.metadata.registerWorkflowDef(new WorkflowDef()), 400, "empty");
        equal(flows.tasks.pollTask("java_nothing_here", "w", null), null, "an empty queue");
        equal(flows.tasks.batchPollTasksByTaskType("java_nothing_here", "w", 5, 50), List.of(),
                "an empty batch");
    }
}

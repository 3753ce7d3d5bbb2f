package run.tutti.sdk;

import com.netflix.conductor.common.metadata.tasks.Task;
import com.netflix.conductor.common.metadata.tasks.TaskResult;
import com.netflix.conductor.sdk.workflow.def.tasks.DynamicForkInput;
import com.netflix.conductor.sdk.workflow.def.tasks.SimpleTask;
import com.netflix.conductor.sdk.workflow.executor.task.NonRetryableException;
import com.netflix.conductor.sdk.workflow.executor.task.TaskContext;
import com.netflix.conductor.sdk.workflow.task.InputParam;
import com.netflix.conductor.sdk.workflow.task.OutputParam;
import com.netflix.conductor.sdk.workflow.task.WorkerTask;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** The workers, in the forms that the SDK's annotations offer. */
public final class Workers {

    @WorkerTask(value = "java_greet", pollingInterval = 20)
    public @OutputParam("greeting") String greet(@InputParam("name") String name) {
        return "hello " + name;
    }

    @WorkerTask(value = "java_echo", threadCount = 4, pollingInterval = 20)
    public Map<String, Object> echo(Task task) {
        return Map.of("echo", task.getInputData(), "worker", task.getTaskDefName());
    }

    @WorkerTask(value = "java_flaky", pollingInterval = 20)
    public Map<String, Object> flaky(Task task) {
        int failures = ((Number) task.getInputData().getOrDefault("failures", 0)).intValue();
        if (task.getRetryCount() < failures) {
            throw new IllegalStateException("attempt " + task.getRetryCount() + " fails");
        }
        return Map.of("attempt", task.getRetryCount());
    }

    @WorkerTask(value = "java_fatal", pollingInterval = 20)
    public void fatal() {
        throw new NonRetryableException("no attempt can help");
    }

    @WorkerTask(value = "java_slow_step", pollingInterval = 20)
    public TaskResult slowStep(Task task) {
        TaskResult result = TaskContext.get().getTaskResult();
        result.log("poll " + task.getPollCount());
        if (task.getPollCount() < 2) {
            result.setStatus(TaskResult.Status.IN_PROGRESS);
            result.setCallbackAfterSeconds(1);
            return result;
        }
        result.setStatus(TaskResult.Status.COMPLETED);
        result.addOutputData("polls", task.getPollCount());
        return result;
    }

    @WorkerTask(value = "java_domain", domain = "blue", pollingInterval = 20)
    public Map<String, Object> inDomain(Task task) {
        return Map.of("domain", String.valueOf(task.getDomain()));
    }

    /** Works for longer than the response timeout of its task. */
    @WorkerTask(value = "java_long", pollingInterval = 20)
    public Map<String, Object> longWork(Task task) throws InterruptedException {
        Thread.sleep(4000);
        return Map.of("attempt", task.getRetryCount());
    }

    /** Says which tasks a dynamic fork is to run. */
    @WorkerTask(value = "java_plan", pollingInterval = 20)
    public DynamicForkInput plan(@InputParam("n") Integer n) {
        List<com.netflix.conductor.sdk.workflow.def.tasks.Task<?>> tasks = new ArrayList<>();
        Map<String, Object> inputs = new HashMap<>();
        for (int i = 0; i < n; i++) {
            tasks.add(new SimpleTask("java_echo", "dyn_" + i));
            inputs.put("dyn_" + i, Map.of("v", i));
        }
        return new DynamicForkInput(tasks, inputs);
    }
}

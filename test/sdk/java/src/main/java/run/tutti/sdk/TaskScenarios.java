package run.tutti.sdk;

import static run.tutti.sdk.Flows.echo;
import static run.tutti.sdk.Flows.only;
import static run.tutti.sdk.Flows.refs;
import static run.tutti.sdk.Flows.request;
import static run.tutti.sdk.Harness.equal;
import static run.tutti.sdk.Harness.eventually;
import static run.tutti.sdk.Harness.refused;

import com.netflix.conductor.client.http.EventClient;
import com.netflix.conductor.client.http.MetadataClient;
import com.netflix.conductor.common.metadata.events.EventHandler;
import com.netflix.conductor.common.metadata.tasks.Task;
import com.netflix.conductor.common.metadata.tasks.TaskExecLog;
import com.netflix.conductor.common.metadata.tasks.TaskResult;
import com.netflix.conductor.common.metadata.workflow.StartWorkflowRequest;
import com.netflix.conductor.common.metadata.workflow.WorkflowDef;
import com.netflix.conductor.common.run.Workflow;
import com.netflix.conductor.common.run.Workflow.WorkflowStatus;
import com.netflix.conductor.common.run.WorkflowTestRequest;
import com.netflix.conductor.sdk.workflow.def.ConductorWorkflow;
import com.netflix.conductor.sdk.workflow.def.tasks.DoWhile;
import com.netflix.conductor.sdk.workflow.def.tasks.Dynamic;
import com.netflix.conductor.sdk.workflow.def.tasks.DynamicFork;
import com.netflix.conductor.sdk.workflow.def.tasks.Event;
import com.netflix.conductor.sdk.workflow.def.tasks.ForkJoin;
import com.netflix.conductor.sdk.workflow.def.tasks.Http;
import com.netflix.conductor.sdk.workflow.def.tasks.JQ;
import com.netflix.conductor.sdk.workflow.def.tasks.Javascript;
import com.netflix.conductor.sdk.workflow.def.tasks.SetVariable;
import com.netflix.conductor.sdk.workflow.def.tasks.SimpleTask;
import com.netflix.conductor.sdk.workflow.def.tasks.SubWorkflow;
import com.netflix.conductor.sdk.workflow.def.tasks.Switch;
import com.netflix.conductor.sdk.workflow.def.tasks.Terminate;
import io.orkes.conductor.client.ApiClient;
import io.orkes.conductor.client.OrkesClients;
import io.orkes.conductor.client.SchedulerClient;
import io.orkes.conductor.client.model.SaveScheduleRequest;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** The scenarios of single task types and of what is around the tasks. */
final class TaskScenarios {
    private final Flows flows;

    TaskScenarios(Flows flows) {
        this.flows = flows;
    }

    void register(Harness harness) {
        harness.scenario("sub_workflow", this::subWorkflow);
        harness.scenario("fork_join", this::forkJoin);
        harness.scenario("dynamic_fork", this::dynamicFork);
        harness.scenario("switch", this::switches);
        harness.scenario("do_while", this::doWhile);
        harness.scenario("http", this::http);
        harness.scenario("inline_and_jq", this::inlineAndJq);
        harness.scenario("logs_and_callbacks", this::logsAndCallbacks);
        harness.scenario("lease_extension", this::leaseExtension);
        harness.scenario("limits_and_priority", this::limitsAndPriority);
        harness.scenario("credentials_without_authentication", this::credentials);
        harness.scenario("orkes_only", this::orkesOnly);
        harness.scenario("queues", this::queues);
        harness.scenario("domains", this::domains);
        harness.scenario("events_start_a_workflow", this::events);
        harness.scenario("dynamic_task_and_failure_workflow", this::compensation);
        harness.scenario("dry_run", this::dryRun);
        harness.scenario("schedules", this::schedules);
    }

    private void subWorkflow() throws Exception {
        flows.define("java_child", Map.of("v", "${work.output.echo.v}"),
                echo("work", "${workflow.input.v}"));
        ConductorWorkflow<Object> inner = flows.builder("java_inline_child")
                .add(echo("work", "${workflow.input.v}")).output("v", "${work.output.echo.v}")
                .build();
        flows.define("java_parent",
                Map.of("id", "${registered.output.subWorkflowId}", "v", "${inline.output.v}"),
                new SubWorkflow("registered", "java_child", 1).input("v", "${workflow.input.v}"),
                new SubWorkflow("inline", inner).input("v", "${registered.output.v}"));
        StartWorkflowRequest request = request("java_parent", Map.of("v", 8));
        request.setCorrelationId("family");
        Workflow run = flows.completed(flows.workflows.startWorkflow(request));
        equal(run.getOutput().get("v"), 8, "output");
        Workflow below =
                flows.workflows.getWorkflow((String) run.getOutput().get("id"), false);
        equal(below.getParentWorkflowId(), run.getWorkflowId(), "parent");
        equal(below.getCorrelationId(), "family", "correlation");
        equal(only(run, "registered").getSubWorkflowId(), below.getWorkflowId(), "link");
    }

    private void forkJoin() throws Exception {
        flows.define("java_fork", Map.of(), new ForkJoin("fork",
                new com.netflix.conductor.sdk.workflow.def.tasks.Task<?>[] {
                    echo("a1", "a1"), echo("a2", "a2")},
                new com.netflix.conductor.sdk.workflow.def.tasks.Task<?>[] {echo("b1", "b1")}),
                echo("end", "end"));
        Workflow run = flows.completed(flows.start("java_fork", Map.of()));
        Task join = only(run, "fork_join");
        equal(new TreeSet<>(join.getOutputData().keySet()), new TreeSet<>(List.of("a2", "b1")),
                "join output");
        List<String> order = refs(run);
        equal(order.get(order.size() - 1), "end", "last task");
    }

    private void dynamicFork() throws Exception {
        SimpleTask plan = new SimpleTask("java_plan", "plan").input("n", "${workflow.input.n}");
        flows.define("java_dynamic_fork", Map.of("all", "${fan_join.output}"),
                new DynamicFork("fan", plan));
        Workflow run = flows.completed(flows.start("java_dynamic_fork", Map.of("n", 20)));
        Map<?, ?> all = (Map<?, ?>) run.getOutput().get("all");
        equal(all.size(), 20, "branches");
        for (int i = 0; i < 20; i++) {
            Map<?, ?> branch = (Map<?, ?>) all.get("dyn_" + i);
            equal(branch.get("echo"), Map.of("v", i), "branch " + i);
        }
        Workflow empty = flows.completed(flows.start("java_dynamic_fork", Map.of("n", 0)));
        equal(only(empty, "fan_join").getStatus(), Task.Status.COMPLETED, "a fork of nothing");
    }

    private void switches() throws Exception {
        Switch byValue = new Switch("by_value", "${workflow.input.kind}")
                .switchCase("x", echo("on_x", 1)).defaultCase(echo("on_other", 2));
        Switch byScript = new Switch("by_script", "$.n > 10 ? 'big' : 'small'", true)
                .switchCase("big", echo("on_big", 3))
                .switchCase("small", new Terminate("stop", WorkflowStatus.FAILED, "too small"));
        byScript.input("n", "${workflow.input.n}");
        flows.define("java_switch", Map.of(), byValue, byScript);
        Workflow run = flows.completed(flows.start("java_switch", Map.of("kind", "x", "n", 11)));
        equal(refs(run), List.of("by_value", "on_x", "by_script", "on_big"), "path");
        run = flows.finished(flows.start("java_switch", Map.of("kind", "y", "n", 1)),
                WorkflowStatus.FAILED);
        equal(refs(run).get(1) + run.getReasonForIncompletion(), "on_othertoo small", "default");
    }

    private void doWhile() throws Exception {
        flows.define("java_loop", Map.of("n", "${loop.output.iteration}"),
                new DoWhile("loop", 3, echo("step", "${loop.output.iteration}")));
        Workflow run = flows.completed(flows.start("java_loop", Map.of()));
        equal(run.getOutput(), Map.of("n", 3), "iterations");
        List<Task> steps = run.getTasks().stream()
                .filter(t -> t.getTaskType().equals("java_echo")).toList();
        equal(steps.stream().map(Task::getReferenceTaskName).toList(),
                List.of("step__1", "step__2", "step__3"), "names");
        equal(steps.stream().map(Task::getIteration).toList(), List.of(1, 2, 3), "iterations");
        equal(steps.get(0).isLoopOverTask(), true, "marked as part of a loop");
    }

    private void http() throws Exception {
        String base = Harness.httpService();
        flows.define("java_http", Map.of("tag", "${post.output.response.body.tag}",
                "path", "${get.output.response.body.path}",
                "status", "${get.output.response.statusCode}"),
                new Http("post").url(base + "/orders?q=1").method(Http.Input.HttpMethod.POST)
                        .headers(Map.of("X-Tag", "blue"))
                        .body(Map.of("n", "${workflow.input.n}")),
                new Http("get").url(base + "/${post.output.response.body.body.n}"));
        Workflow run = flows.completed(flows.start("java_http", Map.of("n", 42)));
        equal(run.getOutput(), Map.of("tag", "blue", "path", "/42", "status", 200), "output");
        flows.define("java_http_broken", Map.of(), new Http("call").url(base + "/broken"));
        run = flows.finished(flows.start("java_http_broken", Map.of()), WorkflowStatus.FAILED);
        equal(only(run, "call").getStatus(), Task.Status.FAILED, "task");
    }

    private void inlineAndJq() throws Exception {
        Javascript script = new Javascript("script",
                "(function () { return {sum: $.a + $.b, list: [1, 2]}; })();")
                .input("a", "${workflow.input.a}").input("b", 2);
        JQ jq = new JQ("jq", "{total: (.list | add), first: .list[0]}")
                .input("list", "${script.output.result.list}");
        SetVariable remember =
                new SetVariable("remember").input("total", "${jq.output.result.total}");
        flows.define("java_local", Map.of("sum", "${script.output.result.sum}",
                "total", "${workflow.variables.total}", "jq", "${jq.output.result}"),
                script, jq, remember);
        Workflow run = flows.completed(flows.start("java_local", Map.of("a", 40)));
        equal(run.getOutput(), Map.of("sum", 42, "total", 3,
                "jq", Map.of("total", 3, "first", 1)), "output");
        equal(run.getVariables(), Map.of("total", 3), "variables");
    }

    private void logsAndCallbacks() throws Exception {
        flows.defineTask("java_slow_step", def -> {});
        flows.define("java_logged", Map.of(), new SimpleTask("java_slow_step", "slow"));
        Task task = only(flows.completed(flows.start("java_logged", Map.of())), "slow");
        equal(task.getPollCount(), 2, "polls");
        equal(task.getOutputData().get("polls"), 2, "output");
        flows.tasks.logMessageForTask(task.getTaskId(), "said from outside");
        List<String> lines = eventually(() -> {
            List<TaskExecLog> got = flows.tasks.getTaskLogs(task.getTaskId());
            return got.size() < 3 ? null : got.stream().map(TaskExecLog::getLog).toList();
        }, "three log lines");
        equal(lines, List.of("poll 1", "poll 2", "said from outside"), "log");
        equal(flows.tasks.getTaskDetails(task.getTaskId()).getStatus(), Task.Status.COMPLETED,
                "task by id");
    }

    /** A worker that works for longer than the response timeout keeps its task by heartbeats. */
    private void leaseExtension() throws Exception {
        flows.defineTask("java_long", def -> {
            def.setRetryCount(1);
            def.setResponseTimeoutSeconds(3);
        });
        flows.define("java_lasting", Map.of(), new SimpleTask("java_long", "work"));
        Workflow run = flows.completed(flows.start("java_lasting", Map.of()));
        equal(only(run, "work").getStatus() + " " + run.getOutput(), "COMPLETED {attempt=0}",
                "one attempt");
    }

    private void limitsAndPriority() throws Exception {
        flows.defineTask("java_serial", def -> def.setConcurrentExecLimit(1));
        flows.define("java_in_turn", Map.of(), new SimpleTask("java_serial", "turn"));
        List<String> ids = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            ids.add(flows.start("java_in_turn", Map.of()));
        }
        for (int i = 0; i < 3; i++) {
            List<Task> batch = eventually(() -> {
                List<Task> got = batch("java_serial");
                return got.isEmpty() ? null : got;
            }, "a turn");
            equal(batch.size(), 1, "tasks at the same time");
            equal(batch("java_serial"), List.of(), "while one runs");
            flows.answer(batch.get(0), TaskResult.Status.COMPLETED, Map.of());
        }
        for (String id : ids) {
            flows.completed(id);
        }

        flows.define("java_ranked", Map.of(), new SimpleTask("java_ranks", "rank"));
        List<String> ranked = new ArrayList<>();
        for (int priority : new int[] {1, 9, 5}) {
            StartWorkflowRequest request = request("java_ranked", Map.of());
            request.setPriority(priority);
            ranked.add(flows.workflows.startWorkflow(request));
        }
        equal(batch("java_ranks").stream().map(Task::getWorkflowPriority).toList(),
                List.of(9, 5, 1), "highest priority first");
        flows.workflows.terminateWorkflows(ranked, "done");
    }

    private List<Task> batch(String type) {
        return flows.tasks.batchPollTasksByTaskType(type, "scenario", 10, 100);
    }

    /** With key and secret the SDK asks for a token, and goes on when the server has none. */
    private void credentials() throws Exception {
        ApiClient named = new ApiClient(flows.client.getBasePath(), "key", "secret");
        equal(new MetadataClient(named).getTaskDef("java_echo").getName(), "java_echo", "task");
        named.shutdown();
    }

    /** What only Orkes has is not found; the SDK reports it as such. */
    private void orkesOnly() throws Exception {
        OrkesClients orkes = new OrkesClients(flows.client);
        refused(() -> orkes.getIntegrationClient().getIntegrations("AI", true), 404,
                "integrations");
        refused(() -> orkes.getPromptClient().getPrompts(), 404, "prompts");
        refused(() -> orkes.getAuthorizationClient().listUsers(false), 404, "users");
        refused(() -> orkes.getSchemaClient().getAllSchemas(false), 404, "schemas");
    }

    private void queues() throws Exception {
        flows.define("java_queued", Map.of(), new SimpleTask("java_nobody", "wait"));
        String id = flows.start("java_queued", Map.of());
        equal(flows.tasks.getQueueSizeForTask("java_nobody"), 1, "size");
        equal(flows.workflows.getRunningWorkflow("java_queued", 1), List.of(id), "running");
        equal(flows.workflows.getWorkflowsByTimePeriod("java_queued", 1,
                System.currentTimeMillis() - 60_000, System.currentTimeMillis() + 60_000),
                List.of(id), "by time");
        flows.workflows.runDecider(id);
        flows.workflows.resetCallbacksForInProgressTasks(id);
        equal(flows.tasks.requeuePendingTasksByTaskType("java_nobody") != null, true, "requeued");
        equal(flows.tasks.getAllPollData().isEmpty(), false, "poll data of all queues");
        flows.answer(flows.poll("java_nobody", "somebody"), TaskResult.Status.COMPLETED, Map.of());
        flows.completed(id);
    }

    private void domains() throws Exception {
        flows.defineTask("java_domain", def -> {});
        flows.define("java_domains", Map.of(), new SimpleTask("java_domain", "where"));
        StartWorkflowRequest request = request("java_domains", Map.of());
        request.setTaskToDomain(Map.of("java_domain", "blue"));
        Workflow run = flows.completed(flows.workflows.startWorkflow(request));
        equal(run.getOutput(), Map.of("domain", "blue"), "in the domain");
        String id = flows.start("java_domains", Map.of());
        eventually(() -> flows.tasks.getQueueSizeForTask("java_domain") == 1, "queued outside");
        Task task = flows.poll("java_domain", "no-domain");
        equal(task.getDomain(), null, "domain");
        flows.answer(task, TaskResult.Status.COMPLETED, Map.of("domain", "none"));
        flows.completed(id);
        equal(flows.tasks.getPollData("java_domain").stream()
                .anyMatch(p -> "no-domain".equals(p.getWorkerId())), true, "poll data");
    }

    private void events() throws Exception {
        flows.define("java_on_event", Map.of(), echo("got", "${workflow.input.v}"));
        EventHandler.StartWorkflow startWorkflow = new EventHandler.StartWorkflow();
        startWorkflow.setName("java_on_event");
        startWorkflow.setVersion(1);
        startWorkflow.setCorrelationId("java-event");
        startWorkflow.setInput(Map.of("v", "${v}"));
        EventHandler.Action action = new EventHandler.Action();
        action.setAction(EventHandler.Action.Type.start_workflow);
        action.setStart_workflow(startWorkflow);
        EventHandler handler = new EventHandler();
        handler.setName("java_handler");
        handler.setEvent("conductor:java_emits:topic");
        handler.setActive(true);
        handler.setCondition("$.v > 1");
        handler.setActions(List.of(action));
        EventClient events = new EventClient(flows.client);
        events.registerEventHandler(handler);
        equal(events.getEventHandlers("conductor:java_emits:topic", true).size(), 1, "handlers");

        // The builder leaves the sink of the step empty; a definition without one is refused.
        WorkflowDef emits = flows.builder("java_emits").add(
                new Event("topic", "conductor:topic").input("v", "${workflow.input.v}"))
                .build().toWorkflowDef();
        emits.getTasks().get(0).setSink("conductor:topic");
        flows.metadata.updateWorkflowDefs(List.of(emits));
        flows.completed(flows.start("java_emits", Map.of("v", 1)));
        Workflow run = flows.completed(flows.start("java_emits", Map.of("v", 2)));
        equal(only(run, "topic").getOutputData().get("event_produced"),
                "conductor:java_emits:topic", "event");
        List<Workflow> found = eventually(() -> {
            List<Workflow> got =
                    flows.workflows.getWorkflows("java_on_event", "java-event", true, false);
            return got.isEmpty() ? null : got;
        }, "a run started by the event");
        equal(found.size(), 1, "runs started");
        Workflow started = flows.completed(found.get(0).getWorkflowId());
        equal(only(started, "got").getInputData().get("v"), 2, "payload");
        events.unregisterEventHandler("java_handler");
    }

    private void compensation() throws Exception {
        flows.define("java_compensate", Map.of(), echo("undo", "${workflow.input.workflowId}"));
        flows.defineTask("java_fatal", def -> def.setRetryCount(0));
        flows.builder("java_compensated").failureWorkflow("java_compensate")
                .add(new Dynamic("any", "${workflow.input.task}")).build().registerWorkflow(true);
        Workflow run =
                flows.completed(flows.start("java_compensated", Map.of("task", "java_echo")));
        equal(only(run, "any").getTaskType(), "java_echo", "dynamic task");
        run = flows.finished(flows.start("java_compensated", Map.of("task", "java_fatal")),
                WorkflowStatus.FAILED);
        Workflow undone =
                flows.completed((String) run.getOutput().get("conductor.failure_workflow"));
        equal(only(undone, "undo").getInputData().get("v"), run.getWorkflowId(), "compensation");
    }

    private void dryRun() throws Exception {
        WorkflowTestRequest request = new WorkflowTestRequest();
        request.setName("java_dry");
        request.setVersion(1);
        request.setInput(Map.of("v", 1));
        request.setWorkflowDef(flows.builder("java_dry")
                .add(new SimpleTask("java_nobody", "mocked").input("v", "${workflow.input.v}"))
                .output("v", "${mocked.output.v}").build().toWorkflowDef());
        request.setTaskRefToMockOutput(Map.of("mocked", List.of(
                new WorkflowTestRequest.TaskMock(TaskResult.Status.COMPLETED, Map.of("v", 9)))));
        Workflow run = flows.workflows.testWorkflow(request);
        equal(run.getStatus() + " " + run.getOutput(), "COMPLETED {v=9}", "run");
    }

    private void schedules() throws Exception {
        SchedulerClient scheduler = new OrkesClients(flows.client).getSchedulerClient();
        StartWorkflowRequest request = request("java_chain", Map.of("v", 1));
        request.setCorrelationId("java-scheduled");
        scheduler.saveSchedule(new SaveScheduleRequest().name("java_schedule")
                .cronExpression("* * * * * ?").startWorkflowRequest(request));
        eventually(() -> !flows.workflows.getWorkflows("java_chain", "java-scheduled", true, false)
                .isEmpty(), "a scheduled run");
        scheduler.pauseSchedule("java_schedule");
        equal(scheduler.getSchedule("java_schedule").isPaused(), true, "paused");
        scheduler.resumeSchedule("java_schedule");
        equal(scheduler.getNextFewSchedules("0 0 12 * * ?", null, null, 3).size(), 3, "next");
        scheduler.deleteSchedule("java_schedule");
        equal(scheduler.getAllSchedules(null).stream()
                .anyMatch(s -> s.getName().equals("java_schedule")), false, "deleted");
    }
}

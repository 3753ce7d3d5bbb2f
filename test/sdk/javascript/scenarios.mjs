// Runs the scenarios with the official JavaScript SDK, unchanged, against CONDUCTOR_SERVER_URL.
// Exits with status 1 when one fails. With arguments, runs only the scenarios of these names.
import {
  ConductorWorkflow, OrkesClients, TaskHandler, conductorEventTask, doWhileTask, dynamicForkTask,
  dynamicTask, forkTaskJoin, generateJoinTask, httpTask, humanTask, inlineTask, joinTask,
  jsonJqTask, newLoopTask, noopLogger, setVariableTask, simpleTask, startWorkflowTask,
  subWorkflowTask, switchTask, taskDefinition, terminateTask, waitTaskDuration, workflow,
} from "@io-orkes/conductor-javascript";
import { equal, eventually, httpService, refused, runAll, scenario } from "./harness.mjs";
import "./workers.mjs";

const clients = await OrkesClients.from({ logger: noopLogger });
const executor = clients.getWorkflowClient();
const metadata = clients.getMetadataClient();
const tasks = clients.getTaskClient();
const events = clients.getEventClient();
const scheduler = clients.getSchedulerClient();
const api = clients.getClient(); // for the calls that the SDK has no method for, such as a poll

const terminal = new Set(["COMPLETED", "FAILED", "TERMINATED", "TIMED_OUT"]);
const gate = (ref) => ({ name: ref, taskReferenceName: ref, type: "WAIT", inputParameters: {} });

function defineTask(name, settings = {}) {
  return metadata.registerTask(taskDefinition({
    name, retryDelaySeconds: 0, responseTimeoutSeconds: 60, timeoutSeconds: 0, ...settings,
  }));
}

/** Registers a workflow of the steps with the SDK's builder and returns the builder. */
async function define(name, steps, output) {
  const flow = new ConductorWorkflow(executor, name, 1).timeoutSeconds(0).add(steps);
  if (output) flow.outputParameters(output);
  await flow.register(true);
  return flow;
}

const start = (name, input = {}, request = {}) =>
  executor.startWorkflow({ name, version: 1, input, ...request });

/** Waits until the run is over, asserts its status and returns it with its tasks. */
async function finished(id, status = "COMPLETED") {
  await eventually(
    async () => terminal.has((await executor.getWorkflowStatus(id, false, false)).status),
    `${id} is over`);
  const run = await executor.getWorkflow(id, true);
  if (run.status !== status) {
    const shown = run.tasks.map((t) => [t.referenceTaskName, t.status, t.reasonForIncompletion]);
    throw new Error(`${id}: ${run.status} (${run.reasonForIncompletion}), want ${status}: ` +
      JSON.stringify(shown));
  }
  return run;
}

const attempts = (run, ref) => run.tasks.filter((t) => t.referenceTaskName === ref);

function only(run, ref) {
  const found = attempts(run, ref);
  equal(found.length, 1, `attempts of ${ref}`);
  return found[0];
}

/** Waits until the run has a task ref of the status and returns it. */
function waitsAt(id, ref, status = "IN_PROGRESS") {
  return eventually(async () => {
    const run = await executor.getWorkflow(id, true);
    return attempts(run, ref).find((t) => t.status === status);
  }, `${id} has ${ref} ${status}`);
}

/** The runs of a definition with a correlation id; undefined when there are none. */
async function correlated(name, id) {
  const all = await executor.getByCorrelationIds(
    { correlationIds: [id], workflowNames: [name] }, true, false);
  return all[id]?.length > 0 ? all[id] : undefined;
}

const update = (id, task, status, output = {}) =>
  executor.updateTask(task.taskId, id, status, output);

async function pollMany(name, workerid = "scenario", count = 10) {
  const { data } = await api.get({
    url: `/api/tasks/poll/batch/${name}`, query: { workerid, count, timeout: 100 },
  });
  return data;
}

const poll = async (name, workerid) => (await pollMany(name, workerid, 1))[0];

scenario("definitions", async () => {
  await defineTask("js_defined", { description: "first", retryCount: 2 });
  const got = await metadata.getTask("js_defined");
  equal([got.description, got.retryCount, got.timeoutPolicy], ["first", 2, "TIME_OUT_WF"], "task");
  await metadata.updateTask({ ...got, description: "second" });
  equal((await metadata.getTask("js_defined")).description, "second", "updated");
  const names = (await metadata.getAllTaskDefs()).map((t) => t.name);
  equal(names.includes("js_defined"), true, "listed");
  await metadata.unregisterTask("js_defined");
  await refused(() => metadata.getTask("js_defined"), /No such taskType found by name/, "removed");

  const flow = workflow("js_definitions", [simpleTask("one", "js_echo", {})]);
  await metadata.registerWorkflowDef({ ...flow, description: "v1" }, true);
  await refused(() => metadata.registerWorkflowDef(flow), /already exists/, "without overwrite");
  await metadata.registerWorkflowDef({ ...flow, version: 2, description: "v2" });
  equal((await metadata.getWorkflowDef("js_definitions")).version, 2, "latest version");
  equal((await metadata.getWorkflowDef("js_definitions", 1)).description, "v1", "version 1");
  const all = (await metadata.getAllWorkflowDefs()).map((w) => w.name);
  equal(all.includes("js_definitions"), true, "listed");
  await metadata.unregisterWorkflow("js_definitions", 2);
  equal((await metadata.getWorkflowDef("js_definitions")).version, 1, "latest after removal");
  const twice = workflow("js_twice", [simpleTask("a", "js_echo"), simpleTask("a", "js_echo")]);
  await refused(() => metadata.registerWorkflowDef(twice), /Validation failed/, "used twice");
});

scenario("happy_path", async () => {
  await defineTask("js_greet");
  await define("js_happy", [
    simpleTask("hello", "js_greet", { name: "${workflow.input.name}", times: 3 }),
    simpleTask("again", "js_echo", { n: "${hello.output.times}" }),
  ], { said: "${hello.output.greeting}", n: "${again.output.echo.n}" });
  const id = await start("js_happy", { name: "Ada" }, { correlationId: "js-happy", priority: 7 });
  const run = await finished(id);
  equal(run.output, { said: "hello Ada", n: 3 }, "output");
  equal(run.tasks.map((t) => t.referenceTaskName), ["hello", "again"], "order");
  equal(run.tasks.map((t) => t.seq), [1, 2], "sequence");
  equal([run.correlationId, run.priority, run.workflowName], ["js-happy", 7, "js_happy"], "run");
  equal(run.tasks[0].pollCount, 1, "polls");
  equal(Boolean(run.tasks[0].workerId), true, "worker is named");
  const status = await executor.getWorkflowStatus(id, true, false);
  equal(status.output.n, 3, "status output");
  const named = await executor.startWorkflowByName("js_happy", { name: "By" }, 1, "js-by", 1);
  equal((await finished(named)).correlationId, "js-by", "started by name");
});

scenario("retry_until_success", async () => {
  await defineTask("js_flaky", { retryCount: 3 });
  await define("js_retries", [simpleTask("try", "js_flaky", { failures: "${workflow.input.n}" })]);
  const run = await finished(await start("js_retries", { n: 2 }));
  const found = attempts(run, "try");
  equal(found.map((t) => t.status), ["FAILED", "FAILED", "COMPLETED"], "attempts");
  equal(found.map((t) => t.retryCount), [0, 1, 2], "retry counts");
  equal(found[1].retriedTaskId, found[0].taskId, "link to the attempt before");
  equal(found[0].reasonForIncompletion, "attempt 0 fails", "reason");
  equal(run.output, { attempt: 2 }, "output");
  const exhausted = await finished(await start("js_retries", { n: 9 }), "FAILED");
  equal(attempts(exhausted, "try").length, 4, "attempts until retries are used up");
  equal(exhausted.failedReferenceTaskNames, ["try"], "failed references");
});

scenario("terminal_failure", async () => {
  await defineTask("js_fatal", { retryCount: 3 });
  await define("js_terminal", [simpleTask("die", "js_fatal", {})]);
  const run = await finished(await start("js_terminal"), "FAILED");
  equal(only(run, "die").status, "FAILED_WITH_TERMINAL_ERROR", "task status");
  equal(/no attempt can help/.test(run.reasonForIncompletion), true, "reason");
});

scenario("response_timeout", async () => {
  await defineTask("js_unattended", { retryCount: 1, responseTimeoutSeconds: 1 });
  await define("js_deserted", [simpleTask("lost", "js_unattended", {})]);
  const id = await start("js_deserted");
  const first = await eventually(() => poll("js_unattended", "dies"), "first poll");
  const second = await eventually(() => poll("js_unattended", "lives"), "second attempt");
  equal([second.retryCount, second.retriedTaskId], [1, first.taskId], "second attempt");
  await update(id, first, "COMPLETED", { from: "the dead" });
  await update(id, second, "COMPLETED", { from: "the living" });
  const run = await finished(id);
  equal(attempts(run, "lost").map((t) => t.status), ["TIMED_OUT", "COMPLETED"], "attempts");
  equal(run.output, { from: "the living" }, "output");
});

scenario("task_and_workflow_timeout", async () => {
  await defineTask("js_limited", {
    retryCount: 0, timeoutSeconds: 1, responseTimeoutSeconds: 1, timeoutPolicy: "TIME_OUT_WF",
  });
  await define("js_task_timeout", [simpleTask("late", "js_limited", {})]);
  const id = await start("js_task_timeout");
  await eventually(() => poll("js_limited"), "poll");
  equal(only(await finished(id, "TIMED_OUT"), "late").status, "TIMED_OUT", "task");

  await new ConductorWorkflow(executor, "js_flow_timeout", 1).timeoutSeconds(1)
    .timeoutPolicy("TIME_OUT_WF").add(gate("forever")).register(true);
  const run = await finished(await start("js_flow_timeout"), "TIMED_OUT");
  equal(/timed out/.test(run.reasonForIncompletion), true, run.reasonForIncompletion);
  equal(only(run, "forever").status, "CANCELED", "the task that waited");
});

scenario("terminate", async () => {
  await define("js_waits", [gate("gate"), simpleTask("after", "js_echo", { v: 1 })]);
  const id = await start("js_waits");
  await waitsAt(id, "gate");
  await executor.terminate(id, "enough");
  const run = await finished(id, "TERMINATED");
  equal([run.reasonForIncompletion, only(run, "gate").status], ["enough", "CANCELED"], "run");
  await executor.terminate(id, "again");
  const done = await finished(await start("js_happy", { name: "Eve" }));
  await refused(() => executor.terminate(done.workflowId, "late"),
    /Cannot terminate a COMPLETED workflow/, "terminate a finished run");
});

scenario("pause_and_resume", async () => {
  const id = await start("js_waits");
  await waitsAt(id, "gate");
  await executor.pause(id);
  equal((await executor.getWorkflowStatus(id, false, false)).status, "PAUSED", "status");
  await executor.updateTaskByRefName("gate", id, "COMPLETED", { opened: true });
  const paused = await executor.getWorkflow(id, true);
  equal([paused.status, paused.tasks.map((t) => t.referenceTaskName)], ["PAUSED", ["gate"]],
    "nothing new while paused");
  await executor.resume(id);
  const run = await finished(id);
  equal(only(run, "gate").outputData, { opened: true }, "gate");
  equal(only(run, "after").outputData.echo, { v: 1 }, "after");
});

scenario("restart", async () => {
  const before = await finished(await start("js_happy", { name: "Bob" }));
  await executor.restart(before.workflowId, false);
  const after = await eventually(async () => {
    const run = await executor.getWorkflow(before.workflowId, true);
    const fresh = run.tasks[0]?.taskId !== before.tasks[0].taskId;
    return run.status === "COMPLETED" && fresh && run;
  }, "second run");
  equal(after.output, before.output, "output");
  equal(after.tasks.length, 2, "tasks of the second run only");
  const id = await start("js_waits");
  await waitsAt(id, "gate");
  await refused(() => executor.restart(id, false), /./, "restart of a running run");
  await executor.terminate(id, "done");
});

scenario("retry", async () => {
  await defineTask("js_fragile", { retryCount: 0 });
  await define("js_retry", [
    simpleTask("first", "js_echo", { v: "${workflow.input.v}" }),
    simpleTask("second", "js_fragile", {}),
  ]);
  const id = await start("js_retry", { v: 5 });
  const broken = await eventually(() => poll("js_fragile"), "poll");
  await update(id, broken, "FAILED");
  const failed = await finished(id, "FAILED");
  await executor.retry(id, false);
  const mended = await eventually(() => poll("js_fragile"), "poll after retry");
  equal([mended.retryCount, mended.retriedTaskId], [1, broken.taskId], "retried task");
  await update(id, mended, "COMPLETED", { ok: true });
  const run = await finished(id);
  equal(only(run, "first").taskId, only(failed, "first").taskId, "what was done stays done");
  equal(attempts(run, "second").map((t) => t.status), ["FAILED", "COMPLETED"], "attempts");
});

scenario("rerun", async () => {
  const step = (ref, v) => simpleTask(ref, "js_echo", { v });
  await define("js_chain", [
    step("a", "${workflow.input.v}"), step("b", "${a.output.echo.v}"),
    step("c", "${b.output.echo.v}"),
  ], { v: "${c.output.echo.v}" });
  const before = await finished(await start("js_chain", { v: 1 }));
  const id = before.workflowId;
  const answer = await executor.reRun(id, {
    reRunFromTaskId: only(before, "b").taskId, taskInput: { v: 2 },
  });
  equal(answer, id, "the id");
  const ended = (v) => eventually(async () => {
    const run = await executor.getWorkflow(id, true);
    return run.status === "COMPLETED" && run.output?.v === v && run;
  }, `rerun with ${v}`);
  equal(only(await ended(2), "a").taskId, only(before, "a").taskId, "a is not run again");
  await executor.reRun(id, { workflowInput: { v: 3 } });
  const after = await ended(3);
  await executor.goBackToTask(id, (task) => task.referenceTaskName === "c",
    { taskInput: { v: 4 } });
  equal(only(await ended(4), "b").taskId, only(after, "b").taskId, "back to c only");
});

scenario("search", async () => {
  const stamp = String(process.hrtime.bigint());
  const ids = [];
  for (let i = 0; i < 5; i++) {
    ids.push(await start("js_chain", { v: i }, { correlationId: `${stamp}-${i % 2}` }));
  }
  for (const id of ids) await finished(id);
  const sorted = (list) => [...list].sort();
  const found = async (query, at = 0, size = 100, sort = "") =>
    (await executor.search(at, size, query, "*", sort)).results.map((s) => s.workflowId);
  const mine = `correlationId IN (${stamp}-0,${stamp}-1)`;
  await eventually(async () => (await found(mine)).length === 5, "all five by correlation");
  equal(sorted(await found(mine)), sorted(ids), "by correlation");
  equal((await found(`workflowType = 'js_chain' AND correlationId = '${stamp}-0'`)).length, 3,
    "equality");
  equal(await found(`${mine} AND status IN (FAILED,TERMINATED)`), [], "other statuses");
  const pages = [];
  for (const at of [0, 2, 4]) pages.push(await found(mine, at, 2));
  equal(pages.map((p) => p.length), [2, 2, 1], "page sizes");
  equal(sorted(pages.flat()), sorted(ids), "pages together");
  equal(await found(mine, 0, 5, "startTime:ASC"), ids, "oldest first");
  equal(await found(mine, 0, 5, "startTime:DESC"), [...ids].reverse(), "newest first");
  const { totalHits, results } = await executor.search(0, 1, mine, "*");
  equal([totalHits, results[0].workflowType], [5, "js_chain"], "hits");
  const batch = await executor.getByCorrelationIds(
    { correlationIds: [`${stamp}-1`], workflowNames: ["js_chain"] }, true, true);
  equal(batch[`${stamp}-1`].length, 2, "by correlation ids in batch");
  const byTask = await tasks.search(0, 10, undefined, "*", `workflowId = '${ids[0]}'`);
  equal(byTask.results.length, 3, "tasks");
});

scenario("execute_sync", async () => {
  const request = { name: "js_happy", version: 1, input: { name: "Max" } };
  const run = await executor.executeWorkflow(request, "js_happy", 1, crypto.randomUUID());
  equal([run.status, run.output.n, run.tasks.length], ["COMPLETED", 3, 2], "run");
  const inline = new ConductorWorkflow(executor, "js_unregistered", 1)
    .add(simpleTask("hi", "js_greet", { name: "${workflow.input.who}" })).toWorkflowDef();
  const direct = await executor.executeWorkflow(
    { name: "js_unregistered", version: 1, workflowDef: inline, input: { who: "you" } },
    "js_unregistered", 1, crypto.randomUUID());
  equal([direct.status, direct.output.greeting], ["COMPLETED", "hello you"], "inline definition");
  await define("js_waits_later", [simpleTask("early", "js_echo", { v: 1 }), humanTask("judge")]);
  const until = await executor.executeWorkflow({ name: "js_waits_later", version: 1, input: {} },
    "js_waits_later", 1, crypto.randomUUID(), "early");
  equal([until.status, until.tasks[0].status], ["RUNNING", "COMPLETED"], "until a task");
  await executor.terminate(until.workflowId, "done");
});

scenario("wait_and_human", async () => {
  const id = await start("js_waits_later");
  equal((await waitsAt(id, "judge")).taskType, "HUMAN", "type");
  await executor.updateTaskByRefName("judge", id, "IN_PROGRESS", { verdict: "good" });
  equal((await waitsAt(id, "judge")).outputData.verdict, "good", "output while in progress");
  const answer = await tasks.updateTaskSync(id, "judge", "COMPLETED", { by: "me" });
  equal(answer.workflowId, id, "answer of the synchronous update");
  equal(only(await finished(id), "judge").outputData, { verdict: "good", by: "me" }, "output");
  await define("js_sleeps", [waitTaskDuration("nap", "1s")]);
  const nap = only(await finished(await start("js_sleeps")), "nap");
  const took = nap.endTime - nap.startTime;
  equal(took >= 900 && took <= 3000, true, `a wait of 1s took ${took}ms`);
});

scenario("signals", async () => {
  await define("js_two_gates", [gate("one"), simpleTask("mid", "js_echo", { v: 1 }), gate("two")],
    { last: "${two.output.taskOutput.key}" });
  const request = { name: "js_two_gates", version: 1, input: {} };
  const first = await executor.executeWorkflow(request, "js_two_gates", 1, crypto.randomUUID(),
    "", 20, "DURABLE", "BLOCKING_TASK");
  equal([first.responseType, first.getBlockingTask().referenceTaskName], ["BLOCKING_TASK", "one"],
    "blocks at");
  const id = first.getTargetWorkflowId();
  const second = await executor.signal(id, "COMPLETED", { key: "a" }, "BLOCKING_TASK_INPUT");
  equal([second.isBlockingTaskInput(), second.referenceTaskName], [true, "two"], "next");
  await executor.signalAsync(id, "COMPLETED", { key: "b" });
  const run = await finished(id);
  equal([only(run, "one").outputData, run.output], [{ taskOutput: { key: "a" } }, { last: "b" }],
    "outputs");
  await refused(() => executor.signal(id, "COMPLETED", {}), /./, "nothing to signal");

  await define("js_gate_inside", [gate("deep")]);
  await define("js_gate_outside", [subWorkflowTask("child", "js_gate_inside", 1)]);
  const outer = await executor.executeWorkflow(
    { name: "js_gate_outside", version: 1, input: {} }, "js_gate_outside", 1, crypto.randomUUID(),
    "", 20, "DURABLE", "BLOCKING_WORKFLOW");
  equal(outer.workflowId !== outer.targetWorkflowId, true, "the child is what blocks");
  const done = await executor.signal(outer.targetWorkflowId, "COMPLETED", {}, "TARGET_WORKFLOW");
  equal(done.getWorkflowId(), outer.targetWorkflowId, "target");
  await finished(outer.targetWorkflowId);
});

scenario("sub_workflow", async () => {
  const work = simpleTask("work", "js_echo", { v: "${workflow.input.v}" });
  const child = await define("js_child", [work], { v: "${work.output.echo.v}" });
  const registered = {
    ...subWorkflowTask("registered", "js_child", 1),
    inputParameters: { v: "${workflow.input.v}" },
  };
  const inline = {
    ...child.toSubWorkflowTask("inline"), inputParameters: { v: "${registered.output.v}" },
  };
  await define("js_parent", [registered, inline],
    { id: "${registered.output.subWorkflowId}", v: "${inline.output.v}" });
  const run = await finished(await start("js_parent", { v: 8 }, { correlationId: "family" }));
  equal(run.output.v, 8, "output");
  const below = await executor.getWorkflow(run.output.id, false);
  equal([below.parentWorkflowId, below.status, below.correlationId],
    [run.workflowId, "COMPLETED", "family"], "child");
  equal(only(run, "registered").subWorkflowId, below.workflowId, "link to the child");

  await define("js_launches", [startWorkflowTask("launch", "js_child", { v: 3 }, 1)]);
  const launcher = await finished(await start("js_launches"));
  const launched = await finished(only(launcher, "launch").outputData.workflowId);
  equal(launched.output, { v: 3 }, "a run that was only started");
});

scenario("fork_join", async () => {
  const step = (ref) => simpleTask(ref, "js_echo", { v: ref });
  const flow = new ConductorWorkflow(executor, "js_fork", 1).timeoutSeconds(0)
    .fork([[step("a1"), step("a2")], [step("b1")]]).add(step("end"));
  await flow.register(true);
  const run = await finished(await start("js_fork"));
  const join = run.tasks.find((t) => t.taskType === "JOIN");
  equal(Object.keys(join.outputData).sort(), ["a2", "b1"], "join output");
  equal(join.outputData.a2.echo, { v: "a2" }, "output of a branch");
  equal(run.tasks.at(-1).referenceTaskName, "end", "last task");

  // The builder leaves joinOn empty: the join waits for every branch of its fork.
  await define("js_fork_all", [...forkTaskJoin("all", [step("x"), step("y")]), step("last")]);
  const all = await finished(await start("js_fork_all"));
  equal(all.tasks.map((t) => t.referenceTaskName).slice(-1), ["last"], "after the join");
  equal(only(all, "y").endTime <= only(all, "last").scheduledTime, true, "the join waited");
  equal(generateJoinTask({ name: "j" }).joinOn, [], "what the builder makes");
});

scenario("dynamic_fork", async () => {
  const plan = inlineTask("plan", `(function () {
      var tasks = [], inputs = {};
      for (var i = 0; i < $.n; i++) {
        tasks.push({name: 'js_echo', taskReferenceName: 'dyn_' + i, type: 'SIMPLE'});
        inputs['dyn_' + i] = {v: i};
      }
      return {tasks: tasks, inputs: inputs};
    })();`);
  plan.inputParameters.n = "${workflow.input.n}";
  const fan = dynamicForkTask("fan", "${plan.output.result.tasks}", "${plan.output.result.inputs}");
  await define("js_dynamic_fork", [plan, fan, joinTask("gather", [])], { all: "${gather.output}" });
  const run = await finished(await start("js_dynamic_fork", { n: 20 }));
  const values = Object.values(run.output.all).map((o) => o.echo.v).sort((a, b) => a - b);
  equal(values, [...Array(20).keys()], "all branches");
  const empty = await finished(await start("js_dynamic_fork", { n: 0 }));
  equal(only(empty, "gather").status, "COMPLETED", "a fork of nothing");
});

scenario("switch", async () => {
  const byValue = switchTask("by_value", "${workflow.input.kind}",
    { x: [simpleTask("on_x", "js_echo", { v: 1 })] },
    [simpleTask("on_other", "js_echo", { v: 2 })]);
  const byScript = {
    ...switchTask("by_script", "", {
      big: [simpleTask("on_big", "js_echo", { v: 3 })],
      small: [terminateTask("stop", "FAILED", "too small")],
    }),
    evaluatorType: "javascript", expression: "$.n > 10 ? 'big' : 'small'",
    inputParameters: { n: "${workflow.input.n}" },
  };
  await define("js_switch", [byValue, byScript]);
  const run = await finished(await start("js_switch", { kind: "x", n: 11 }));
  equal(run.tasks.map((t) => t.referenceTaskName), ["by_value", "on_x", "by_script", "on_big"],
    "path");
  equal(only(run, "by_value").outputData.evaluationResult, ["x"], "result");
  const other = await finished(await start("js_switch", { kind: "y", n: 1 }), "FAILED");
  equal([other.tasks[1].referenceTaskName, other.reasonForIncompletion],
    ["on_other", "too small"], "path of the default");
});

scenario("do_while", async () => {
  const step = simpleTask("step", "js_echo", { i: "${loop.output.iteration}" });
  await define("js_loop", [newLoopTask("loop", 3, [step])], { n: "${loop.output.iteration}" });
  const run = await finished(await start("js_loop"));
  equal(run.output, { n: 3 }, "iterations");
  const steps = run.tasks.filter((t) => t.taskType === "js_echo");
  equal(steps.map((t) => t.referenceTaskName), ["step__1", "step__2", "step__3"], "names");
  equal(steps.map((t) => t.iteration), [1, 2, 3], "iterations");
  const other = simpleTask("step", "js_echo", { i: 1 });
  await define("js_until", [doWhileTask("loop", "$.step['echo']['i'] > 1", [other])]);
  const until = only(await finished(await start("js_until")), "loop");
  equal(until.outputData.iteration, 1, "ends at once");
});

scenario("http", async () => {
  const base = await httpService();
  await define("js_http", [
    httpTask("post", {
      uri: `${base}/orders?q=1`, method: "POST", headers: { "X-Tag": "blue" },
      body: { n: "${workflow.input.n}" },
    }),
    httpTask("get", { uri: `${base}/\${post.output.response.body.body.n}`, method: "GET" }),
  ], {
    tag: "${post.output.response.body.tag}", path: "${get.output.response.body.path}",
    status: "${get.output.response.statusCode}",
  });
  const run = await finished(await start("js_http", { n: 42 }));
  equal(run.output, { tag: "blue", path: "/42", status: 200 }, "output");
  await define("js_http_broken", [httpTask("call", { uri: `${base}/broken`, method: "GET" })]);
  const broken = await finished(await start("js_http_broken"), "FAILED");
  equal(only(broken, "call").status, "FAILED", "task");
});

scenario("inline_and_jq", async () => {
  const script = inlineTask("script",
    "(function () { return {sum: $.a + $.b, list: [1, 2]}; })();", "graaljs");
  Object.assign(script.inputParameters, { a: "${workflow.input.a}", b: 2 });
  const jq = jsonJqTask("jq", "{total: (.list | add), first: .list[0]}");
  jq.inputParameters.list = "${script.output.result.list}";
  await define("js_local", [script, jq,
    setVariableTask("remember", { total: "${jq.output.result.total}" })],
  { sum: "${script.output.result.sum}", total: "${workflow.variables.total}",
    jq: "${jq.output.result}" });
  const run = await finished(await start("js_local", { a: 40 }));
  equal(run.output, { sum: 42, total: 3, jq: { total: 3, first: 1 } }, "output");
  equal(run.variables, { total: 3 }, "variables");
  await define("js_bad_script", [inlineTask("script", "(function () { return $.a.b.c; })();")]);
  const bad = await finished(await start("js_bad_script"), "FAILED");
  equal(only(bad, "script").status, "FAILED_WITH_TERMINAL_ERROR", "a script that fails");
});

scenario("logs_and_callbacks", async () => {
  await defineTask("js_slow_step");
  await define("js_logged", [simpleTask("slow", "js_slow_step", {})]);
  const task = only(await finished(await start("js_logged")), "slow");
  equal([task.pollCount, task.outputData.polls], [2, 2], "polls");
  await tasks.addTaskLog(task.taskId, "said from outside");
  const lines = await eventually(async () => {
    const got = await tasks.getTaskLogs(task.taskId);
    return got.length >= 3 && got.map((entry) => entry.log);
  }, "three log lines");
  equal(lines, ["poll 1", "poll 2", "said from outside"], "log");
  equal((await tasks.getTask(task.taskId)).status, "COMPLETED", "task by id");
});

// A worker that works for longer than the response timeout keeps its task by heartbeats.
scenario("lease_extension", async () => {
  await defineTask("js_long", { retryCount: 1, responseTimeoutSeconds: 2 });
  await define("js_lasting", [simpleTask("work", "js_long", {})]);
  const run = await finished(await start("js_lasting"));
  equal([only(run, "work").status, run.output], ["COMPLETED", { attempt: 0 }], "one attempt");
});

scenario("limits_and_priority", async () => {
  await defineTask("js_serial", { concurrentExecLimit: 1 });
  await define("js_in_turn", [simpleTask("turn", "js_serial", {})]);
  const ids = [];
  for (let i = 0; i < 3; i++) ids.push(await start("js_in_turn"));
  for (let i = 0; i < 3; i++) {
    const batch = await eventually(async () => {
      const got = await pollMany("js_serial");
      return got.length > 0 && got;
    }, "a turn");
    equal(batch.length, 1, "tasks at the same time");
    equal(await pollMany("js_serial"), [], "while one runs");
    await update(batch[0].workflowInstanceId, batch[0], "COMPLETED");
  }
  for (const id of ids) await finished(id);

  await define("js_ranked", [simpleTask("rank", "js_ranks", {})]);
  const ranked = [];
  for (const priority of [1, 9, 5]) ranked.push(await start("js_ranked", {}, { priority }));
  const batch = await pollMany("js_ranks");
  equal(batch.map((t) => t.workflowPriority), [9, 5, 1], "highest priority first");
  for (const id of ranked) await executor.terminate(id, "done");
});

// With key and secret the SDK asks for a token, and goes on when the server has none.
scenario("credentials_without_authentication", async () => {
  const named = await OrkesClients.from({ keyId: "key", keySecret: "secret", logger: noopLogger });
  equal((await named.getMetadataClient().getTask("js_echo")).name, "js_echo", "definition");
});

// What only Orkes has is not found; the SDK reports it as such.
scenario("orkes_only", async () => {
  const missing = /No static resource/;
  await refused(() => clients.getIntegrationClient().getIntegrations(), missing, "integrations");
  await refused(() => clients.getPromptClient().getPrompts(), missing, "prompts");
  await refused(() => clients.getAuthorizationClient().listUsers(), missing, "users");
  await refused(() => clients.getSchemaClient().getAllSchemas(), missing, "schemas");
  await refused(() => clients.getApplicationClient().getAllApplications(), missing, "apps");
});

scenario("domains", async () => {
  await defineTask("js_domain");
  await define("js_domains", [simpleTask("where", "js_domain", {})]);
  const taskToDomain = { js_domain: "blue" };
  const run = await finished(await start("js_domains", {}, { taskToDomain }));
  equal([run.output, only(run, "where").domain], [{ domain: "blue" }, "blue"], "in the domain");
  const id = await start("js_domains");
  await eventually(async () => (await tasks.getQueueSizeForTask(["js_domain"])).js_domain === 1,
    "outside the domain");
  const task = await poll("js_domain", "no-domain");
  equal(task.domain, undefined, "domain");
  await update(id, task, "COMPLETED", { domain: "none" });
  await finished(id);
  const polled = (await tasks.getTaskPollData("js_domain")).map((p) => p.workerId);
  equal(polled.includes("no-domain"), true, "poll data");
});

scenario("events_start_a_workflow", async () => {
  await define("js_on_event", [simpleTask("got", "js_echo", { v: "${workflow.input.v}" })]);
  await events.addEventHandler({
    name: "js_handler", event: "conductor:js_emits:topic", active: true, condition: "$.v > 1",
    actions: [{
      action: "start_workflow",
      start_workflow: {
        name: "js_on_event", version: 1, correlationId: "js-event", input: { v: "${v}" },
      },
    }],
  });
  const handlers = await events.getEventHandlersForEvent("conductor:js_emits:topic");
  equal(handlers.map((h) => h.name), ["js_handler"], "handlers of the event");
  const emit = {
    ...conductorEventTask("topic", "topic"), inputParameters: { v: "${workflow.input.v}" },
  };
  await define("js_emits", [emit]);
  await finished(await start("js_emits", { v: 1 }));
  const run = await finished(await start("js_emits", { v: 2 }));
  equal(only(run, "topic").outputData.event_produced, "conductor:js_emits:topic", "event");
  const found = await eventually(() => correlated("js_on_event", "js-event"),
    "started by the event");
  equal(found.length, 1, "runs started");
  equal(only(await finished(found[0].workflowId), "got").inputData.v, 2, "payload");
  await events.removeEventHandler("js_handler");
});

scenario("dynamic_task_and_failure_workflow", async () => {
  await define("js_compensate", [simpleTask("undo", "js_echo", {
    of: "${workflow.input.workflowId}", why: "${workflow.input.reason}",
  })]);
  await defineTask("js_fatal", { retryCount: 0 });
  await new ConductorWorkflow(executor, "js_compensated", 1).timeoutSeconds(0)
    .failureWorkflow("js_compensate").add(dynamicTask("any", "${workflow.input.task}"))
    .register(true);
  const run = await finished(await start("js_compensated", { task: "js_echo" }));
  equal(only(run, "any").taskType, "js_echo", "dynamic task");
  const failed = await finished(await start("js_compensated", { task: "js_fatal" }), "FAILED");
  const undone = await finished(failed.output["conductor.failure_workflow"]);
  equal(only(undone, "undo").inputData.of, failed.workflowId, "compensation");
});

scenario("skip_and_remove", async () => {
  const id = await start("js_waits");
  await waitsAt(id, "gate");
  await executor.skipTasksFromWorkflow(id, "after", { taskOutput: { skipped: true } });
  await executor.updateTaskByRefName("gate", id, "COMPLETED", {});
  equal(only(await finished(id), "after").status, "SKIPPED", "task");
  await executor.deleteWorkflow(id, false);
  await refused(() => executor.getWorkflow(id, false), /No such workflow found/, "removed");
});

scenario("idempotency", async () => {
  const idempotencyKey = `once-${process.hrtime.bigint()}`;
  const first = await start("js_waits", {}, { idempotencyKey, idempotencyStrategy: "FAIL" });
  const again = await start("js_waits", {}, {
    idempotencyKey, idempotencyStrategy: "RETURN_EXISTING",
  });
  equal(again, first, "the same run");
  await refused(() => start("js_waits", {}, { idempotencyKey, idempotencyStrategy: "FAIL" }), /./,
    "the same key with FAIL");
  await executor.terminate(first, "done");
});

scenario("dry_run", async () => {
  const flow = new ConductorWorkflow(executor, "js_dry", 1)
    .add(simpleTask("mocked", "js_nobody", { v: "${workflow.input.v}" }))
    .outputParameters({ v: "${mocked.output.v}" }).toWorkflowDef();
  const run = await executor.testWorkflow({
    name: "js_dry", version: 1, input: { v: 1 }, workflowDef: flow,
    taskRefToMockOutput: { mocked: [{ status: "COMPLETED", output: { v: 9 } }] },
  });
  equal([run.status, run.output], ["COMPLETED", { v: 9 }], "run");
});

scenario("schedules", async () => {
  await scheduler.saveSchedule({
    name: "js_schedule", cronExpression: "* * * * * ?",
    startWorkflowRequest: {
      name: "js_chain", version: 1, input: { v: 1 }, correlationId: "js-scheduled",
    },
  });
  await eventually(() => correlated("js_chain", "js-scheduled"), "a scheduled run");
  await scheduler.pauseSchedule("js_schedule");
  equal((await scheduler.getSchedule("js_schedule")).paused, true, "paused");
  await scheduler.resumeSchedule("js_schedule");
  const next = await scheduler.getNextFewSchedules("0 0 12 * * ?", undefined, undefined, 3);
  equal(next.length, 3, "next times");
  await scheduler.deleteSchedule("js_schedule");
  const left = (await scheduler.getAllSchedules()).map((s) => s.name);
  equal(left.includes("js_schedule"), false, "deleted");
});

scenario("errors", async () => {
  await refused(() => executor.getWorkflow("no-such-run", true), /No such workflow found by id/,
    "unknown run");
  await refused(() => start("js_no_such_definition"), /No such workflow/, "unknown definition");
  await refused(() => tasks.getTask("no-such-task"), /Task not found/, "unknown task");
  await refused(() => executor.pause("no-such-run"), /./, "pause of an unknown run");
  await refused(() => metadata.registerWorkflowDef({ name: "", version: 1, tasks: [] }),
    /Validation failed/, "empty definition");
  equal(await poll("js_nothing_here"), undefined, "an empty queue");
});

await defineTask("js_echo");
const handler = new TaskHandler({
  client: api, scanForDecorated: true, logger: noopLogger,
});
await handler.startWorkers();
const failed = await runAll(process.argv.slice(2));
await handler.stopWorkers();
process.exit(failed ? 1 : 0);

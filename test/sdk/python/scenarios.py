"""Runs the scenarios with the official Python SDK, unchanged, against CONDUCTOR_SERVER_URL.

Exits with status 1 when one fails. With arguments, runs only the scenarios of these names.
"""

import logging
import sys
import time

from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.configuration.settings.authentication_settings import AuthenticationSettings
from conductor.client.http.api.event_resource_api import EventResourceApi
from conductor.client.http.api.workflow_bulk_resource_api import WorkflowBulkResourceApi
from conductor.client.http.api_client import ApiClient
from conductor.client.http.models import (
    Action,
    EventHandler,
    RerunWorkflowRequest,
    SaveScheduleRequest,
    SkipTaskRequest,
    StartWorkflow,
    StartWorkflowRequest,
    TaskDef,
    TaskResult,
    WorkflowDef,
    WorkflowTask,
)
from conductor.client.http.models.correlation_ids_search_request import (
    CorrelationIdsSearchRequest,
)
from conductor.client.http.models.start_workflow_request import IdempotencyStrategy
from conductor.client.http.models.workflow_test_request import WorkflowTestRequest
from conductor.client.orkes_clients import OrkesClients
from conductor.client.workflow.conductor_workflow import ConductorWorkflow
from conductor.client.workflow.task.do_while_task import LoopTask
from conductor.client.workflow.task.dynamic_fork_task import DynamicForkTask
from conductor.client.workflow.task.dynamic_task import DynamicTask
from conductor.client.workflow.task.event_task import ConductorEventTask
from conductor.client.workflow.task.http_task import HttpInput, HttpMethod, HttpTask
from conductor.client.workflow.task.human_task import HumanTask
from conductor.client.workflow.task.inline import InlineTask
from conductor.client.workflow.task.javascript_task import JavascriptTask
from conductor.client.workflow.task.join_task import JoinTask
from conductor.client.workflow.task.json_jq_task import JsonJQTask
from conductor.client.workflow.task.set_variable_task import SetVariableTask
from conductor.client.workflow.task.simple_task import simple_task
from conductor.client.workflow.task.sub_workflow_task import SubWorkflowTask
from conductor.client.workflow.task.switch_task import SwitchTask
from conductor.client.workflow.task.terminate_task import TerminateTask, WorkflowStatus
from conductor.client.workflow.task.timeout_policy import TimeoutPolicy
from conductor.client.workflow.task.wait_task import WaitForDurationTask, WaitTask

from harness import equal, eventually, http_service, refused, run_all, scenario
from workers import Adder

logging.getLogger().setLevel(logging.WARNING)
config = Configuration(log_level="ERROR")
clients = OrkesClients(configuration=config)
executor = clients.get_workflow_executor()
workflows = clients.get_workflow_client()
tasks = clients.get_task_client()
metadata = clients.get_metadata_client()
events = EventResourceApi(ApiClient(config))
bulk = WorkflowBulkResourceApi(ApiClient(config))

TERMINAL = ("COMPLETED", "FAILED", "TERMINATED", "TIMED_OUT")


def define_task(name, **settings):
    settings.setdefault("retry_delay_seconds", 0)
    settings.setdefault("response_timeout_seconds", 60)
    metadata.register_task_def(TaskDef(name=name, **settings))


def define(name, *steps, **output):
    """Registers a workflow of the steps with the SDK's builder and returns the builder."""
    flow = ConductorWorkflow(executor=executor, name=name, version=1)
    flow.timeout_seconds(0)
    for step in steps:
        flow >> step
    if output:
        flow.output_parameters(output)
    flow.register(overwrite=True)
    return flow


def start(name, input=None, **request):
    request = StartWorkflowRequest(name=name, version=1, input=input or {}, **request)
    return workflows.start_workflow(request)


def finished(id, status="COMPLETED"):
    """Waits until the run is over, asserts its status and returns it with its tasks."""
    eventually(lambda: workflows.get_workflow_status(id).status in TERMINAL, f"{id} is over")
    run = workflows.get_workflow(id, include_tasks=True)
    if run.status != status:
        shown = [(t.reference_task_name, t.status, t.reason_for_incompletion) for t in run.tasks]
        raise AssertionError(
            f"{id}: {run.status} ({run.reason_for_incompletion}), want {status}: {shown}")
    return run


def attempts(run, ref):
    return [t for t in run.tasks if t.reference_task_name == ref]


def only(run, ref):
    found = attempts(run, ref)
    equal(len(found), 1, f"attempts of {ref}")
    return found[0]


def poll(name, worker="scenario"):
    """Waits for a task; the SDK answers an empty queue with a task that has no id."""

    def probe():
        task = tasks.poll_task(name, worker_id=worker)
        return task if task.task_id else None

    return eventually(probe, f"a task {name}")


def waits_at(id, ref, status="IN_PROGRESS"):
    """Waits until the run has a task ref of the status and returns it."""

    def probe():
        run = workflows.get_workflow(id, include_tasks=True)
        return next((t for t in attempts(run, ref) if t.status == status), None)

    return eventually(probe, f"{id} has {ref} {status}")


@scenario
def definitions():
    define_task("py_defined", description="first", retry_count=2)
    got = metadata.get_task_def("py_defined")
    equal((got.description, got.retry_count, got.timeout_policy), ("first", 2, "TIME_OUT_WF"),
          "task definition")
    metadata.update_task_def(TaskDef(name="py_defined", description="second", retry_count=4,
                                     response_timeout_seconds=5))
    equal(metadata.get_task_def("py_defined").description, "second", "updated description")
    equal("py_defined" in [t.name for t in metadata.get_all_task_defs()], True, "listed")
    metadata.unregister_task_def("py_defined")
    refused(lambda: metadata.get_task_def("py_defined"), 404, "task definition after its removal")

    step = WorkflowTask(name="py_echo", task_reference_name="one")
    first = WorkflowDef(name="py_definitions", version=1, tasks=[step], description="v1",
                        owner_email="someone@example.com", timeout_seconds=0)
    metadata.register_workflow_def(first, overwrite=True)
    refused(lambda: metadata.register_workflow_def(first, overwrite=False), 409,
            "the same version without overwrite")
    second = WorkflowDef(name="py_definitions", version=2, tasks=[step], description="v2",
                         timeout_seconds=0)
    metadata.update_workflow_def(second)
    equal(metadata.get_workflow_def("py_definitions").version, 2, "latest version")
    equal(metadata.get_workflow_def("py_definitions", 1).description, "v1", "version 1")
    versions = [w.version for w in metadata.get_all_workflow_defs() if w.name == "py_definitions"]
    equal(sorted(versions), [1, 2], "versions listed")
    metadata.unregister_workflow_def("py_definitions", 2)
    equal(metadata.get_workflow_def("py_definitions").version, 1, "latest after removal")

    twice = WorkflowDef(name="py_twice", version=1, tasks=[step, step], timeout_seconds=0)
    e = refused(lambda: metadata.register_workflow_def(twice), 400, "a reference used twice")
    equal("should be unique" in e.body, True, f"message {e.body}")


@scenario
def happy_path():
    define_task("py_greet")
    define("py_happy",
           simple_task("py_greet", "hello", {"name": "${workflow.input.name}", "times": 3}),
           simple_task("py_async", "square", {"n": "${hello.output.times}"}),
           simple_task("py_add", "sum", {"a": "${square.output.square}", "b": 1}),
           said="${hello.output.greeting}", sum="${sum.output.sum}")
    id = start("py_happy", {"name": "Ada"}, correlation_id="py-happy", priority=7)
    run = finished(id)
    equal(run.output, {"said": "hello Ada", "sum": 10}, "output")
    equal([t.reference_task_name for t in run.tasks], ["hello", "square", "sum"], "order")
    equal([t.seq for t in run.tasks], [1, 2, 3], "sequence")
    equal((run.correlation_id, run.priority, run.workflow_name), ("py-happy", 7, "py_happy"),
          "run")
    equal(run.tasks[0].poll_count, 1, "polls")
    equal(bool(run.tasks[0].worker_id), True, "worker is named")
    equal(executor.get_workflow_status(id, include_output=True).output["sum"], 10, "status output")


@scenario
def retry_until_success():
    define_task("py_flaky", retry_count=3)
    define("py_retries", simple_task("py_flaky", "try", {"failures": "${workflow.input.n}"}))
    run = finished(start("py_retries", {"n": 2}))
    found = attempts(run, "try")
    equal([t.status for t in found], ["FAILED", "FAILED", "COMPLETED"], "attempts")
    equal([t.retry_count for t in found], [0, 1, 2], "retry counts")
    equal(found[1].retried_task_id, found[0].task_id, "link to the attempt before")
    equal("attempt 0 fails" in found[0].reason_for_incompletion, True, "reason")
    equal(run.output, {"attempt": 2}, "output")

    exhausted = finished(start("py_retries", {"n": 9}), "FAILED")
    equal(len(attempts(exhausted, "try")), 4, "attempts until retries are used up")
    equal(list(exhausted.failed_reference_task_names), ["try"], "failed references")


@scenario
def terminal_failure():
    define_task("py_fatal", retry_count=3)
    define("py_terminal", simple_task("py_fatal", "die", {}))
    run = finished(start("py_terminal"), "FAILED")
    task = only(run, "die")
    equal(task.status, "FAILED_WITH_TERMINAL_ERROR", "task status")
    equal("no attempt can help" in run.reason_for_incompletion, True, "reason")


@scenario
def response_timeout():
    define_task("py_unattended", retry_count=1, response_timeout_seconds=1)
    define("py_deserted", simple_task("py_unattended", "lost", {}))
    id = start("py_deserted")
    first = poll("py_unattended", "dies")
    second = poll("py_unattended", "lives")
    equal((second.retry_count, second.retried_task_id), (1, first.task_id), "second attempt")
    late = TaskResult(workflow_instance_id=id, task_id=first.task_id, status="COMPLETED",
                      output_data={"from": "the dead"})
    tasks.update_task(late)
    tasks.update_task(TaskResult(workflow_instance_id=id, task_id=second.task_id,
                                 status="COMPLETED", output_data={"from": "the living"}))
    run = finished(id)
    equal([t.status for t in attempts(run, "lost")], ["TIMED_OUT", "COMPLETED"], "attempts")
    equal("responseTimeout" in run.tasks[0].reason_for_incompletion, True, "reason")
    equal(run.output, {"from": "the living"}, "output")


@scenario
def task_and_workflow_timeout():
    define_task("py_limited", retry_count=0, timeout_seconds=1, response_timeout_seconds=1,
                timeout_policy="TIME_OUT_WF")
    define("py_task_timeout", simple_task("py_limited", "late", {}))
    id = start("py_task_timeout")
    poll("py_limited")
    run = finished(id, "TIMED_OUT")
    equal(only(run, "late").status, "TIMED_OUT", "task")

    flow = ConductorWorkflow(executor=executor, name="py_flow_timeout", version=1)
    flow.timeout_seconds(1).timeout_policy(TimeoutPolicy.TIME_OUT_WORKFLOW)
    flow >> WaitTask("forever")
    flow.register(overwrite=True)
    run = finished(start("py_flow_timeout"), "TIMED_OUT")
    equal("timed out" in run.reason_for_incompletion, True, run.reason_for_incompletion)
    equal(only(run, "forever").status, "CANCELED", "the task that waited")


@scenario
def terminate():
    define("py_waits", WaitTask("gate"), simple_task("py_echo", "after", {"v": 1}))
    id = start("py_waits")
    waits_at(id, "gate")
    workflows.terminate_workflow(id, reason="enough")
    run = finished(id, "TERMINATED")
    equal((run.reason_for_incompletion, only(run, "gate").status), ("enough", "CANCELED"), "run")
    workflows.terminate_workflow(id)
    done = finished(start("py_happy", {"name": "Eve"}))
    refused(lambda: workflows.terminate_workflow(done.workflow_id), 409, "terminate a finished run")


@scenario
def pause_and_resume():
    id = start("py_waits")
    waits_at(id, "gate")
    workflows.pause_workflow(id)
    equal(workflows.get_workflow_status(id).status, "PAUSED", "status")
    tasks.update_task_by_ref_name(id, "gate", "COMPLETED", "opened")
    run = workflows.get_workflow(id)
    equal((run.status, [t.reference_task_name for t in run.tasks]), ("PAUSED", ["gate"]),
          "nothing new while paused")
    workflows.resume_workflow(id)
    run = finished(id)
    equal(only(run, "gate").output_data, {"result": "opened"}, "gate")
    equal(only(run, "after").output_data["echo"], {"v": 1}, "after")


@scenario
def restart():
    before = finished(start("py_happy", {"name": "Bob"}))
    workflows.restart_workflow(before.workflow_id)
    after = eventually(
        lambda: (lambda r: r if r.status == "COMPLETED" and r.tasks
                 and r.tasks[0].task_id != before.tasks[0].task_id else None)(
                     workflows.get_workflow(before.workflow_id)), "second run")
    equal(after.output, before.output, "output")
    equal(len(after.tasks), 3, "tasks of the second run only")
    id = start("py_waits")
    waits_at(id, "gate")
    refused(lambda: workflows.restart_workflow(id), 409, "restart of a running run")
    workflows.terminate_workflow(id)


@scenario
def retry():
    define_task("py_fragile", retry_count=0)
    define("py_retry", simple_task("py_echo", "first", {"v": "${workflow.input.v}"}),
           simple_task("py_fragile", "second", {}))
    id = start("py_retry", {"v": 5})
    broken = poll("py_fragile")
    tasks.update_task(TaskResult(workflow_instance_id=id, task_id=broken.task_id, status="FAILED",
                                 reason_for_incompletion="broken"))
    failed = finished(id, "FAILED")
    workflows.retry_workflow(id)
    mended = poll("py_fragile")
    equal((mended.retry_count, mended.retried_task_id), (1, broken.task_id), "retried task")
    tasks.update_task(TaskResult(workflow_instance_id=id, task_id=mended.task_id,
                                 status="COMPLETED", output_data={"ok": True}))
    run = finished(id)
    equal(only(run, "first").task_id, only(failed, "first").task_id, "what was done stays done")
    equal([t.status for t in attempts(run, "second")], ["FAILED", "COMPLETED"], "attempts")
    refused(lambda: workflows.retry_workflow(id), 409, "nothing left to retry")


@scenario
def rerun():
    define("py_chain", *(simple_task("py_echo", ref, {"v": value}) for ref, value in (
        ("a", "${workflow.input.v}"), ("b", "${a.output.echo.v}"), ("c", "${b.output.echo.v}"))),
           v="${c.output.echo.v}")
    before = finished(start("py_chain", {"v": 1}))
    id = before.workflow_id
    equal(before.output, {"v": 1}, "output")
    workflows.rerun_workflow(id, RerunWorkflowRequest(
        re_run_from_task_id=only(before, "b").task_id, task_input={"v": 2}))
    after = eventually(
        lambda: (lambda r: r if r.status == "COMPLETED" and r.output == {"v": 2} else None)(
            workflows.get_workflow(id)), "rerun from b")
    equal(only(after, "a").task_id, only(before, "a").task_id, "a is not run again")
    equal(only(after, "b").input_data["v"], 2, "input of b")

    workflows.rerun_workflow(id, RerunWorkflowRequest(workflow_input={"v": 3}))
    eventually(lambda: (lambda r: r.status == "COMPLETED" and r.output == {"v": 3})(
        workflows.get_workflow(id)), "rerun from the start")


@scenario
def search():
    stamp = str(time.time_ns())
    ids = {start("py_chain", {"v": i}, correlation_id=f"{stamp}-{i % 2}") for i in range(5)}
    for id in ids:
        finished(id)

    def found(query, **paging):
        results = workflows.search(query=query, **paging).results
        return [s.workflow_id for s in results]

    mine = f"correlationId IN ({stamp}-0,{stamp}-1)"
    eventually(lambda: set(found(mine)) == ids, "all five by correlation")
    equal(len(found(f"workflowType = 'py_chain' AND correlationId = '{stamp}-0'")), 3, "equality")
    equal(found(f"{mine} AND status IN (FAILED,TERMINATED)"), [], "other statuses")
    equal(set(found(f'{mine} AND status = "COMPLETED"')), ids, "double quotes")
    pages = [found(mine, start=at, size=2) for at in (0, 2, 4)]
    equal([len(p) for p in pages], [2, 2, 1], "page sizes")
    equal({id for page in pages for id in page}, ids, "pages together")
    first = workflows.search(query=f"{mine} AND status = COMPLETED", size=1).results[0]
    equal((first.workflow_type, first.status, first.version), ("py_chain", "COMPLETED", 1),
          "summary")
    equal(first.start_time[10], "T", "time format")
    eventually(lambda: len(workflows.search(free_text=f"{stamp}-1").results) == 2, "free text")

    by_id = workflows.get_by_correlation_ids("py_chain", [f"{stamp}-0"], include_completed=True,
                                             include_tasks=True)
    equal(len(by_id[f"{stamp}-0"]), 3, "by correlation id")
    batch = CorrelationIdsSearchRequest(correlation_ids=[f"{stamp}-1"], workflow_names=["py_chain"])
    by_batch = workflows.get_by_correlation_ids_in_batch(batch, include_completed=True)
    equal(len(by_batch[f"{stamp}-1"]), 2, "by correlation ids in batch")


@scenario
def execute_sync():
    run = executor.execute("py_happy", version=1, workflow_input={"name": "Max"},
                           wait_for_seconds=20)
    equal((run.status, run.output["sum"]), ("COMPLETED", 10), "run")
    equal(len(run.tasks), 3, "tasks")

    inline = ConductorWorkflow(executor=executor, name="py_unregistered", version=1)
    inline >> simple_task("py_greet", "hi", {"name": "${workflow.input.who}"})
    run = inline.execute(workflow_input={"who": "you"}, wait_for_seconds=20)
    equal((run.status, run.output["greeting"]), ("COMPLETED", "hello you"), "inline definition")

    define_waits_later()
    until = executor.execute("py_waits_later", version=1, wait_until_task_ref="early",
                             wait_for_seconds=20)
    equal((until.status, until.tasks[0].status), ("RUNNING", "COMPLETED"), "until a task")
    workflows.terminate_workflow(until.workflow_id)


def define_waits_later():
    return define("py_waits_later", simple_task("py_echo", "early", {"v": 1}), HumanTask("judge"))


@scenario
def wait_and_human():
    define_waits_later()
    id = start("py_waits_later")
    task = waits_at(id, "judge")
    equal(task.task_type, "HUMAN", "type")
    executor.update_task_by_ref_name({"verdict": "good"}, id, "judge", "IN_PROGRESS")
    equal(waits_at(id, "judge").output_data["verdict"], "good", "output while in progress")
    run = tasks.update_task_sync(id, "judge", "COMPLETED", {"by": "me"})
    equal(run.workflow_id, id, "answer of the synchronous update")
    run = finished(id)
    equal(only(run, "judge").output_data, {"verdict": "good", "by": "me"}, "merged output")

    define("py_sleeps", WaitForDurationTask("nap", 1))
    run = finished(start("py_sleeps"))
    nap = only(run, "nap")
    took = (nap.end_time - nap.start_time) / 1000
    equal(0.9 <= took <= 3.0, True, f"a wait of 1s took {took}s")
    refused(lambda: tasks.update_task_sync(id, "judge", "COMPLETED", {}), 404, "update when done")


@scenario
def signals():
    define("py_two_gates", WaitTask("one"), simple_task("py_echo", "mid", {"v": 1}),
           WaitTask("two"), last="${two.output.key}")
    request = StartWorkflowRequest(name="py_two_gates", version=1, input={})
    first = executor.execute_workflow_with_return_strategy(
        request, wait_for_seconds=20, return_strategy="BLOCKING_TASK")
    equal((first.response_type, first.reference_task_name), ("BLOCKING_TASK", "one"), "blocks at")
    id = first.target_workflow_id
    second = executor.signal(id, "COMPLETED", {"key": "a"}, return_strategy="BLOCKING_TASK_INPUT")
    equal((second.response_type, second.reference_task_name), ("BLOCKING_TASK_INPUT", "two"),
          "after the first signal")
    executor.signal_async(id, "COMPLETED", {"key": "b"})
    run = finished(id)
    equal((only(run, "one").output_data["key"], run.output), ("a", {"last": "b"}), "outputs")
    refused(lambda: executor.signal(id, "COMPLETED", {}), 404, "nothing to signal")

    inner = define("py_gate_inside", WaitTask("deep"))
    define("py_gate_outside", SubWorkflowTask("child", inner.name, 1))
    request = StartWorkflowRequest(name="py_gate_outside", version=1, input={})
    outer = executor.execute_workflow_with_return_strategy(
        request, wait_for_seconds=20, return_strategy="BLOCKING_WORKFLOW")
    equal(outer.workflow_id != outer.target_workflow_id, True, "the child is what blocks")
    done = executor.signal(outer.target_workflow_id, "COMPLETED", {"x": 1},
                           return_strategy="TARGET_WORKFLOW")
    equal(done.workflow_id, outer.target_workflow_id, "target")
    finished(outer.target_workflow_id)


@scenario
def sub_workflow():
    child = define("py_child", simple_task("py_echo", "work", {"v": "${workflow.input.v}"}),
                   v="${work.output.echo.v}")
    registered = SubWorkflowTask("registered", child.name, 1)
    registered.input_parameter("v", "${workflow.input.v}")
    inline = ConductorWorkflow(executor=executor, name="py_inline_child", version=1)
    inline >> simple_task("py_echo", "work", {"v": "${workflow.input.v}"})
    inline.output_parameters({"v": "${work.output.echo.v}"})
    inline.input_template({"v": "${registered.output.v}"})
    define("py_parent", registered, inline, id="${registered.output.subWorkflowId}",
           v="${registered.output.v}")
    run = finished(start("py_parent", {"v": 8}, correlation_id="family"))
    equal(run.output["v"], 8, "output")
    below = workflows.get_workflow(run.output["id"])
    equal((below.parent_workflow_id, below.status, below.correlation_id),
          (run.workflow_id, "COMPLETED", "family"), "child")
    equal(only(run, "registered").sub_workflow_id, below.workflow_id, "link to the child")
    equal(run.tasks[1].output_data["v"], 8, "inline child")


@scenario
def fork_join():
    def branch(ref):
        return simple_task("py_echo", ref, {"v": ref})

    define("py_fork", [[branch("a1"), branch("a2")], [branch("b1")]],
           branch("end"))
    run = finished(start("py_fork"))
    join = next(t for t in run.tasks if t.task_type == "JOIN")
    equal(sorted(join.output_data), ["a2", "b1"], "join output")
    equal(join.output_data["a2"]["echo"], {"v": "a2"}, "output of a branch")
    equal([t.task_type for t in run.tasks][:1], ["FORK"], "first task")
    equal(run.tasks[-1].reference_task_name, "end", "last task")


@scenario
def dynamic_fork():
    plan = JavascriptTask("plan", """
        (function () {
          var tasks = [], inputs = {};
          for (var i = 0; i < $.n; i++) {
            tasks.push({name: 'py_echo', taskReferenceName: 'dyn_' + i, type: 'SIMPLE'});
            inputs['dyn_' + i] = {v: i};
          }
          return {tasks: tasks, inputs: inputs};
        })();""", {"n": "${workflow.input.n}"})
    fork = DynamicForkTask("fan", "tasks", "inputs", JoinTask("gather"))
    fork.input_parameters = {"tasks": "${plan.output.result.tasks}",
                             "inputs": "${plan.output.result.inputs}"}
    define("py_dynamic_fork", plan, fork, all="${gather.output}")
    run = finished(start("py_dynamic_fork", {"n": 20}))
    equal({k: v["echo"]["v"] for k, v in run.output["all"].items()},
          {f"dyn_{i}": i for i in range(20)}, "all branches")
    empty = finished(start("py_dynamic_fork", {"n": 0}))
    equal(only(empty, "gather").status, "COMPLETED", "a fork of nothing")


@scenario
def switch():
    by_value = SwitchTask("by_value", "${workflow.input.kind}")
    by_value.switch_case("x", [simple_task("py_echo", "on_x", {"v": 1})])
    by_value.default_case([simple_task("py_echo", "on_other", {"v": 2})])
    by_script = SwitchTask("by_script", "$.n > 10 ? 'big' : 'small'", use_javascript=True)
    by_script.input_parameters = {"n": "${workflow.input.n}"}
    by_script.switch_case("big", [simple_task("py_echo", "on_big", {"v": 3})])
    by_script.switch_case("small", [TerminateTask("stop", WorkflowStatus.FAILED, "too small")])
    define("py_switch", by_value, by_script)
    run = finished(start("py_switch", {"kind": "x", "n": 11}))
    equal([t.reference_task_name for t in run.tasks],
          ["by_value", "on_x", "by_script", "on_big"], "path")
    equal(only(run, "by_value").output_data["evaluationResult"], ["x"], "result")
    run = finished(start("py_switch", {"kind": "y", "n": 1}), "FAILED")
    equal((run.tasks[1].reference_task_name, run.reason_for_incompletion),
          ("on_other", "too small"), "path of the default")


@scenario
def do_while():
    step = simple_task("py_echo", "step", {"i": "${loop.output.iteration}"})
    define("py_loop", LoopTask("loop", 3, [step]), n="${loop.output.iteration}")
    run = finished(start("py_loop"))
    equal(run.output, {"n": 3}, "iterations")
    refs = [t.reference_task_name for t in run.tasks if t.task_type == "py_echo"]
    equal(refs, ["step__1", "step__2", "step__3"], "names")
    equal([t.iteration for t in run.tasks if t.task_type == "py_echo"], [1, 2, 3], "iterations")
    equal(sorted(k for k in only(run, "loop").output_data if k.isdigit()), ["1", "2", "3"],
          "outputs of the iterations")


@scenario
def http():
    base = http_service()
    post = HttpTask("post", HttpInput(method=HttpMethod.POST, uri=base + "/orders?q=1",
                                      headers={"X-Tag": "blue"},
                                      body={"n": "${workflow.input.n}"}))
    get = HttpTask("get", {"uri": base + "/${post.output.response.body.body.n}"})
    define("py_http", post, get, tag=post.body("tag"), path=get.body("path"),
           status=get.status_code())
    run = finished(start("py_http", {"n": 42}))
    equal(run.output, {"tag": "blue", "path": "/42", "status": 200}, "output")

    define("py_http_broken", HttpTask("call", {"uri": base + "/broken"}))
    run = finished(start("py_http_broken"), "FAILED")
    task = only(run, "call")
    equal((task.status, task.output_data["response"]["statusCode"]
           if isinstance(task.output_data["response"], dict) else 503), ("FAILED", 503), "task")


@scenario
def inline_and_jq():
    script = InlineTask("script", "(function () { return {sum: $.a + $.b, list: [1, 2]}; })();",
                        {"a": "${workflow.input.a}", "b": 2})
    jq = JsonJQTask("jq", "{total: (.list | add), first: .list[0]}")
    jq.input_parameters["list"] = "${script.output.result.list}"
    variable = SetVariableTask("remember")
    variable.input_parameters = {"total": "${jq.output.result.total}"}
    define("py_local", script, jq, variable, sum="${script.output.result.sum}",
           total="${workflow.variables.total}", jq="${jq.output.result}")
    run = finished(start("py_local", {"a": 40}))
    equal(run.output, {"sum": 42, "total": 3, "jq": {"total": 3, "first": 1}}, "output")
    equal(run.variables, {"total": 3}, "variables")
    define("py_bad_script", InlineTask("script", "(function () { return $.a.b.c; })();"))
    run = finished(start("py_bad_script"), "FAILED")
    equal(only(run, "script").status, "FAILED_WITH_TERMINAL_ERROR", "a script that fails")


@scenario
def logs_and_callbacks():
    define_task("py_slow_step")
    define("py_logged", simple_task("py_slow_step", "slow", {}))
    id = start("py_logged")
    run = finished(id)
    task = only(run, "slow")
    equal((task.poll_count, task.output_data["polls"]), (2, 2), "polls")
    tasks.add_task_log(task.task_id, "said from outside")
    lines = eventually(lambda: (lambda got: got if len(got) >= 3 else None)(
        [entry.log for entry in tasks.get_task_logs(task.task_id)]), "three log lines")
    equal(lines, ["poll 1", "poll 2", "said from outside"], "log")
    equal(tasks.get_task(task.task_id).status, "COMPLETED", "task by id")


@scenario
def lease_extension():
    """A worker that works for longer than the response timeout keeps its task by heartbeats."""
    define_task("py_long", retry_count=1, response_timeout_seconds=6)
    define("py_lasting", simple_task("py_long", "work", {}))
    run = finished(start("py_lasting"))
    equal((only(run, "work").status, run.output), ("COMPLETED", {"attempt": 0}), "one attempt")


@scenario
def limits_and_priority():
    define_task("py_serial", concurrent_exec_limit=1)
    define("py_in_turn", simple_task("py_serial", "turn", {}))
    ids = {start("py_in_turn") for _ in range(3)}
    for _ in range(3):
        batch = eventually(lambda: tasks.batch_poll_tasks("py_serial", count=10), "a turn")
        equal(len(batch), 1, "tasks at the same time")
        equal(tasks.batch_poll_tasks("py_serial", count=10), [], "while one runs")
        tasks.update_task(TaskResult(workflow_instance_id=batch[0].workflow_instance_id,
                                     task_id=batch[0].task_id, status="COMPLETED"))
    for id in ids:
        finished(id)

    define_task("py_rated", rate_limit_per_frequency=2, rate_limit_frequency_in_seconds=60)
    define("py_few", simple_task("py_rated", "one", {}))
    ids = [start("py_few") for _ in range(3)]
    equal(len(eventually(lambda: tasks.batch_poll_tasks("py_rated", count=10), "two")), 2, "rate")
    bulk.terminate(ids)

    define("py_ranked", simple_task("py_ranks", "rank", {}))
    ids = [start("py_ranked", priority=p) for p in (1, 9, 5)]
    batch = tasks.batch_poll_tasks("py_ranks", count=10)
    equal([t.workflow_priority for t in batch], [9, 5, 1], "highest priority first")
    bulk.terminate(ids)


@scenario
def credentials_without_authentication():
    """With key and secret the SDK asks for a token, and goes on when the server has none."""
    settings = AuthenticationSettings(key_id="key", key_secret="secret")
    named = OrkesClients(configuration=Configuration(
        authentication_settings=settings, log_level="CRITICAL"))
    equal(named.get_metadata_client().get_task_def("py_echo").name, "py_echo", "definition")


@scenario
def orkes_only():
    """What only Orkes has is not found; the SDK reports it as such."""
    refused(lambda: clients.get_integration_client().get_integrations(), 404, "integrations")
    refused(lambda: clients.get_prompt_client().get_prompts(), 404, "prompts")
    refused(lambda: clients.get_authorization_client().list_users(), 404, "users")
    refused(lambda: clients.get_schema_client().get_all_schemas(), 404, "schemas")
    refused(lambda: metadata.get_workflow_tags("py_chain"), 405, "tags, a path of a version")


@scenario
def domains():
    define_task("py_domain")
    define("py_domains", simple_task("py_domain", "where", {}))
    run = finished(start("py_domains", task_to_domain={"py_domain": "blue"}))
    equal((run.output, only(run, "where").domain), ({"domain": "blue"}, "blue"), "in the domain")

    id = start("py_domains")
    eventually(lambda: tasks.get_queue_size_for_task("py_domain") == 1, "outside the domain")
    task = poll("py_domain", "no-domain")
    equal(task.domain, None, "domain")
    tasks.update_task(TaskResult(workflow_instance_id=id, task_id=task.task_id,
                                 status="COMPLETED", output_data={"domain": "none"}))
    finished(id)
    polled = tasks.get_task_poll_data("py_domain")
    equal("no-domain" in [p.worker_id for p in polled], True, "poll data")


@scenario
def events_start_a_workflow():
    define("py_on_event", simple_task("py_echo", "got", {"v": "${workflow.input.v}"}))
    handler = EventHandler(
        name="py_handler", event="conductor:py_emits:topic", active=True,
        condition="$.v > 1",
        actions=[Action(action="start_workflow", start_workflow=StartWorkflow(
            name="py_on_event", version=1, correlation_id="py-event",
            input={"v": "${v}"}))])
    events.add_event_handler(handler)
    equal([h.name for h in events.get_event_handlers_for_event("conductor:py_emits:topic")],
          ["py_handler"], "handlers of the event")
    emit = ConductorEventTask("topic", "topic")
    emit.input_parameters = {"v": "${workflow.input.v}"}
    define("py_emits", emit)
    finished(start("py_emits", {"v": 1}))
    run = finished(start("py_emits", {"v": 2}))
    equal(only(run, "topic").output_data["event_produced"], "conductor:py_emits:topic", "event")
    found = eventually(lambda: workflows.get_by_correlation_ids(
        "py_on_event", ["py-event"], include_completed=True).get("py-event"), "started by event")
    equal(len(found), 1, "runs started")
    equal(only(finished(found[0].workflow_id), "got").input_data["v"], 2, "payload")
    events.remove_event_handler_status("py_handler")
    refused(lambda: events.remove_event_handler_status("py_handler"), 404, "removed twice")


@scenario
def dynamic_task_and_failure_workflow():
    define("py_compensate", simple_task("py_echo", "undo", {
        "of": "${workflow.input.workflowId}", "why": "${workflow.input.reason}"}))
    define_task("py_fatal", retry_count=0)
    flow = ConductorWorkflow(executor=executor, name="py_compensated", version=1)
    flow.timeout_seconds(0).failure_workflow("py_compensate")
    flow >> DynamicTask("${workflow.input.task}", "any")
    flow.register(overwrite=True)
    run = finished(start("py_compensated", {"task": "py_echo"}))
    equal(only(run, "any").task_type, "py_echo", "dynamic task")
    run = finished(start("py_compensated", {"task": "py_fatal"}), "FAILED")
    undone = finished(run.output["conductor.failure_workflow"])
    equal(only(undone, "undo").input_data["of"], run.workflow_id, "compensation")


@scenario
def skip_and_bulk():
    id = start("py_waits")
    waits_at(id, "gate")
    workflows.skip_task_from_workflow(id, "after", SkipTaskRequest(task_output={"skipped": True}))
    tasks.update_task_by_ref_name(id, "gate", "COMPLETED", 1)
    equal(only(finished(id), "after").status, "SKIPPED", "task")

    ids = [start("py_waits") for _ in range(3)]
    done = bulk.pause_workflow(ids + ["no-such-run"])
    equal(sorted(done.bulk_successful_results), sorted(ids), "paused")
    equal(list(done.bulk_error_results), ["no-such-run"], "not paused")
    equal(sorted(bulk.resume_workflow(ids).bulk_successful_results), sorted(ids), "resumed")
    equal(sorted(bulk.terminate(ids, reason="all").bulk_successful_results), sorted(ids), "ended")
    for each in ids:
        finished(each, "TERMINATED")
    bulk.restart(ids)
    for each in ids:
        waits_at(each, "gate")
    bulk.terminate(ids)
    for each in ids:
        workflows.delete_workflow(each, archive_workflow=False)
        refused(lambda: workflows.get_workflow(each), 404, "a run that was removed")


@scenario
def idempotency():
    key = f"once-{time.time_ns()}"
    first = start("py_waits", idempotency_key=key)
    again = start("py_waits", idempotency_key=key,
                  idempotency_strategy=IdempotencyStrategy.RETURN_EXISTING)
    equal(again, first, "the same run")
    refused(lambda: start("py_waits", idempotency_key=key), 409, "the same key with FAIL")
    workflows.terminate_workflow(first)


@scenario
def dry_run():
    flow = WorkflowDef(name="py_dry", version=1, timeout_seconds=0, tasks=[
        WorkflowTask(name="py_nobody", task_reference_name="mocked",
                     input_parameters={"v": "${workflow.input.v}"}, type="SIMPLE")],
        output_parameters={"v": "${mocked.output.v}"})
    run = workflows.test_workflow(WorkflowTestRequest(
        name="py_dry", version=1, input={"v": 1}, workflow_def=flow,
        # As objects: the SDK's TaskMock does not serialise to what the API takes.
        task_ref_to_mock_output={"mocked": [{"status": "COMPLETED", "output": {"v": 9}}]}))
    equal((run.status, run.output), ("COMPLETED", {"v": 9}), "run")


@scenario
def schedules():
    scheduler = clients.get_scheduler_client()
    scheduler.save_schedule(SaveScheduleRequest(
        name="py_schedule", cron_expression="* * * * * ?",
        start_workflow_request=StartWorkflowRequest(
            name="py_chain", version=1, input={"v": 1}, correlation_id="py-scheduled")))
    eventually(lambda: workflows.get_by_correlation_ids(
        "py_chain", ["py-scheduled"], include_completed=True).get("py-scheduled"),
        "a scheduled run")
    scheduler.pause_schedule("py_schedule")
    equal(scheduler.get_schedule("py_schedule").paused, True, "paused")
    scheduler.resume_schedule("py_schedule")
    equal(len(scheduler.get_next_few_schedule_execution_times("0 0 12 * * ?", limit=3)), 3, "next")
    scheduler.delete_schedule("py_schedule")
    equal("py_schedule" in [s.name for s in scheduler.get_all_schedules()], False, "deleted")


@scenario
def errors():
    refused(lambda: workflows.get_workflow("no-such-run"), 404, "unknown run")
    refused(lambda: start("py_no_such_definition"), 404, "unknown definition")
    refused(lambda: tasks.get_task("no-such-task"), 404, "unknown task")
    refused(lambda: workflows.pause_workflow("no-such-run"), 404, "pause of an unknown run")
    e = refused(lambda: metadata.register_workflow_def(
        WorkflowDef(name="", version=1, tasks=[], timeout_seconds=0)), 400, "empty definition")
    equal("WorkflowDef name cannot be null or empty" in e.body, True, e.body)
    equal(tasks.poll_task("py_nothing_here").task_id, None, "an empty queue")
    equal(tasks.batch_poll_tasks("py_nothing_here", count=5, timeout_in_millisecond=50), [],
          "an empty batch")


def main():
    define_task("py_echo")
    with TaskHandler(workers=[Adder()], configuration=config,
                     scan_for_annotated_workers=True) as handler:
        handler.start_processes()
        return run_all(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(1 if main() else 0)

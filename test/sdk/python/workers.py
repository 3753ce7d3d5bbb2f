"""The workers, in the forms that the SDK offers: plain values, the whole task, results built by
hand, exceptions, coroutines, a class, and a worker of a domain."""

import time

from conductor.client.context.task_context import TaskInProgress, get_task_context
from conductor.client.http.models import Task, TaskResult
from conductor.client.http.models.task_result_status import TaskResultStatus
from conductor.client.worker.exception import NonRetryableException
from conductor.client.worker.worker_interface import WorkerInterface
from conductor.client.worker.worker_task import worker_task


@worker_task(task_definition_name="py_greet", poll_interval_millis=20)
def greet(name: str, times: int = 1) -> dict:
    return {"greeting": "hello " + name, "times": times}


@worker_task(task_definition_name="py_echo", poll_interval_millis=20, thread_count=4)
def echo(task: Task) -> TaskResult:
    result = TaskResult(task_id=task.task_id, workflow_instance_id=task.workflow_instance_id)
    result.status = TaskResultStatus.COMPLETED
    result.output_data = {"echo": task.input_data, "worker": task.task_def_name}
    return result


@worker_task(task_definition_name="py_flaky", poll_interval_millis=20)
def flaky(task: Task) -> dict:
    if task.retry_count < task.input_data.get("failures", 0):
        raise RuntimeError(f"attempt {task.retry_count} fails")
    return {"attempt": task.retry_count}


@worker_task(task_definition_name="py_fatal", poll_interval_millis=20)
def fatal(task: Task) -> dict:
    raise NonRetryableException("no attempt can help")


@worker_task(task_definition_name="py_slow_step", poll_interval_millis=20)
def slow_step(task: Task):
    context = get_task_context()
    context.add_log(f"poll {task.poll_count}")
    if task.poll_count < 2:
        return TaskInProgress(callback_after_seconds=1, output={"progress": 50})
    return {"polls": task.poll_count}


@worker_task(task_definition_name="py_long", lease_extend_enabled=True, poll_interval_millis=20)
def long_work(task: Task) -> dict:
    time.sleep(7)
    return {"attempt": task.retry_count}


@worker_task(task_definition_name="py_async", poll_interval_millis=20)
async def square(n: int) -> dict:
    return {"square": n * n}


@worker_task(task_definition_name="py_domain", domain="blue", poll_interval_millis=20)
def in_domain(task: Task) -> dict:
    return {"domain": task.domain}


class Adder(WorkerInterface):
    """A worker of the class form."""

    def __init__(self):
        super().__init__("py_add")
        self.poll_interval = 20

    def execute(self, task: Task) -> TaskResult:
        result = self.get_task_result_from_task(task)
        result.add_output_data("sum", task.input_data["a"] + task.input_data["b"])
        result.status = TaskResultStatus.COMPLETED
        return result

    def get_polling_interval_in_seconds(self):
        return 0.02

"""A worker and a run with the official Conductor client for Python, unchanged.

    pip install conductor-python
    bin/tutti serve                                  # in another terminal
    python examples/conductor-python/greet.py
"""

import os

from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.orkes_clients import OrkesClients
from conductor.client.worker.worker_task import worker_task
from conductor.client.workflow.conductor_workflow import ConductorWorkflow


@worker_task(task_definition_name="greet_from_python")
def greet(name: str) -> str:
    return f"Hello, {name}!"


def main() -> None:
    server = os.environ.get("CONDUCTOR_SERVER_URL", "http://127.0.0.1:8080/api")
    configuration = Configuration(server_api_url=server)
    executor = OrkesClients(configuration=configuration).get_workflow_executor()

    workflow = ConductorWorkflow(name="greeting_from_python", version=1, executor=executor)
    workflow >> greet(task_ref_name="greet_ref", name=workflow.input("name"))
    workflow.output_parameters({"text": "${greet_ref.output.result}"})
    workflow.register(overwrite=True)

    workers = TaskHandler(configuration=configuration)
    workers.start_processes()
    try:
        run = executor.execute(
            name=workflow.name, version=workflow.version, workflow_input={"name": "Ada"}
        )
        print(run.output["text"])
    finally:
        workers.stop_processes()


if __name__ == "__main__":
    main()

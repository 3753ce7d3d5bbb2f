// The workers, in the forms that the SDK offers: functions registered by the decorator, the task
// context, in-progress answers, exceptions, and a worker of a domain.
import { setTimeout as pause } from "node:timers/promises";
import { NonRetryableException, getTaskContext, worker } from "@io-orkes/conductor-javascript";

const fast = { pollInterval: 20 };

worker({ taskDefName: "js_greet", ...fast })(async (task) => ({
  status: "COMPLETED",
  outputData: { greeting: `hello ${task.inputData.name}`, times: task.inputData.times ?? 1 },
}));

worker({ taskDefName: "js_echo", concurrency: 4, ...fast })(async (task) => ({
  status: "COMPLETED",
  outputData: { echo: task.inputData, worker: task.taskDefName },
}));

worker({ taskDefName: "js_flaky", ...fast })(async (task) => {
  const attempt = task.retryCount ?? 0;
  if (attempt < (task.inputData.failures ?? 0)) throw new Error(`attempt ${attempt} fails`);
  return { status: "COMPLETED", outputData: { attempt } };
});

worker({ taskDefName: "js_fatal", ...fast })(async () => {
  throw new NonRetryableException("no attempt can help");
});

worker({ taskDefName: "js_slow_step", ...fast })(async (task) => {
  getTaskContext().addLog(`poll ${task.pollCount}`);
  if (task.pollCount < 2) {
    return { status: "IN_PROGRESS", callbackAfterSeconds: 1, outputData: { progress: 50 } };
  }
  return { status: "COMPLETED", outputData: { polls: task.pollCount } };
});

worker({ taskDefName: "js_long", leaseExtendEnabled: true, ...fast })(async (task) => {
  await pause(3000);
  return { status: "COMPLETED", outputData: { attempt: task.retryCount ?? 0 } };
});

worker({ taskDefName: "js_domain", domain: "blue", ...fast })(async (task) => ({
  status: "COMPLETED",
  outputData: { domain: task.domain },
}));

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

// The queues of the workers' steps.
var stepQueues = []string{"bench_step_1", "bench_step_2", "bench_step_3"}

// payload is what a run carries from step to step: about 200 bytes, half of which no
// compression can take away.
func payload() object {
	return object{"data": json.RawMessage(fmt.Sprintf(
		`{"order":"%08d","customer":"c-%05d","amount":%d.95,"items":[{"sku":"a-1","count":2},`+
			`{"sku":"b-7","count":1}],"note":"%016x%016x%016x%016x%016x"}`,
		rand.IntN(1e8), rand.IntN(1e5), rand.IntN(1000), rand.Uint64(), rand.Uint64(),
		rand.Uint64(), rand.Uint64(), rand.Uint64()))}
}

type object = map[string]any

func simple(name, ref string, input object) object {
	return object{
		"name": name, "taskReferenceName": ref, "type": "SIMPLE", "inputParameters": input,
	}
}

func workflow(name string, output object, tasks ...object) object {
	return object{
		"name": name, "version": 1, "schemaVersion": 2, "ownerEmail": "bench@tutti.run",
		"tasks": tasks, "outputParameters": output,
	}
}

// threeSteps is the definition of W1: each step gets what the one before returned.
func threeSteps() object {
	return workflow("bench_three_steps", object{"data": "${c.output.data}"},
		simple(stepQueues[0], "a", object{"data": "${workflow.input.data}"}),
		simple(stepQueues[1], "b", object{"data": "${a.output.data}"}),
		simple(stepQueues[2], "c", object{"data": "${b.output.data}"}))
}

// wide is the definition of W2: a fork over a list, and a join.
func wide() object {
	return workflow("bench_wide", object{},
		object{
			"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN_DYNAMIC",
			"inputParameters": object{
				"forkTaskName": stepQueues[0], "forkTaskInputs": "${workflow.input.items}",
			},
		},
		object{"name": "join", "taskReferenceName": "join", "type": "JOIN"})
}

// waiting is the definition of W3.
func waiting() object {
	return workflow("bench_waiting", object{}, object{
		"name": "approve", "taskReferenceName": "approve", "type": "HUMAN",
		"inputParameters": object{"data": "${workflow.input.data}"},
	})
}

// long is the definition of W4: one step in a loop.
func long() object {
	return workflow("bench_long", object{}, object{
		"name": "loop", "taskReferenceName": "loop", "type": "DO_WHILE",
		"inputParameters": object{"n": "${workflow.input.n}"},
		"loopCondition":   "$.loop['iteration'] < $.n",
		"loopOver":        []object{simple(stepQueues[0], "step", object{"data": "x"})},
	})
}

// register stores a definition under test.
func (t *target) register(ctx context.Context, def object) error {
	src, err := json.Marshal(def)
	if err != nil {
		return err
	}
	name := def["name"].(string)
	if err := t.client.Apply(ctx, name+".json", src); err != nil {
		return fmt.Errorf("apply %s: %w", name, err)
	}
	return nil
}

package sim

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine/enginetest"
)

// Cast is what a game plays: definitions, and the queues that workers serve.
type Cast interface {
	// Name is how the command line calls the cast.
	Name() string
	// Definitions draws the definitions of a game.
	Definitions(rng *rand.Rand) []*tutti.Source
	// Documents is the catalogue that programs may look into while they run; nil = none.
	Documents() tutti.Documents
	// Queues lists the queues of their tasks.
	Queues() []string
	// Expect checks the result of a completed run that no operator let repeat anything.
	Expect(src *tutti.Source, r *tutti.Run) error
}

// Toys is a cast of random Toy definitions.
type Toys struct{}

// Name implements Cast.
func (Toys) Name() string { return "toys" }

// Documents implements Cast.
func (Toys) Documents() tutti.Documents { return nil }

// Queues implements Cast.
func (Toys) Queues() []string { return []string{"a", "b"} }

// Definitions implements Cast. Later definitions may use earlier ones as children.
func (Toys) Definitions(rng *rand.Rand) (all []*tutti.Source) {
	for i := range 4 {
		body, err := json.Marshal(drawSteps(rng, 2, i))
		if err != nil {
			panic(err) // the steps are ours
		}
		all = append(all, &tutti.Source{
			Dialect: "toy", Name: fmt.Sprintf("d%d", i), Version: 1, Body: body,
		})
	}
	return all
}

// Expect implements Cast: every step is done once.
func (Toys) Expect(src *tutti.Source, r *tutti.Run) error {
	var steps []enginetest.Step
	if err := json.Unmarshal(src.Body, &steps); err != nil {
		return err
	}
	if want := fmt.Sprintf(`{"done":%d}`, count(steps)); string(r.Output) != want {
		return fmt.Errorf("it ended with %s, want %s", r.Output, want)
	}
	return nil
}

// count is how many steps a definition does.
func count(steps []enginetest.Step) (n int) {
	for _, s := range steps {
		n += 1 + max(s.Fork, s.Loop)*count(s.Steps)
	}
	return n
}

func drawSteps(rng *rand.Rand, depth, children int) (steps []enginetest.Step) {
	for range 1 + rng.IntN(3) {
		steps = append(steps, drawStep(rng, depth, children))
	}
	return steps
}

func drawStep(rng *rand.Rand, depth, children int) (s enginetest.Step) {
	ms := func(choices ...int64) int64 { return choices[rng.IntN(len(choices))] }
	switch n := rng.IntN(14); {
	case n < 5:
		s = drawTask(rng)
	case n < 6:
		until := ms(0, 0, 200, 3000)
		s.Wait = &until
	case n < 7:
		s.Local = "made here"
	case n < 8:
		s.Posts = 1 + rng.IntN(4)
	case n < 9:
		s.Draw = 2
	case n < 11 && depth > 0:
		s.Fork, s.Steps = 1+rng.IntN(4), drawSteps(rng, depth-1, children)
	case n < 12 && depth > 0:
		s.Loop, s.Steps = 1+rng.IntN(3), drawSteps(rng, depth-1, children)
	case n < 13 && children > 0:
		s.Child = fmt.Sprintf("d%d", rng.IntN(children))
		s.Retries, s.Optional = rng.IntN(2), rng.IntN(2) == 0
		if rng.IntN(4) == 0 {
			s.Key = "shared"
		}
	case children > 0:
		s.Start = fmt.Sprintf("d%d", rng.IntN(children))
	default:
		s = drawTask(rng)
	}
	return s
}

// drawTask draws a worker's task. It always has a response timeout, since workers die.
func drawTask(rng *rand.Rand) (s enginetest.Step) {
	ms := func(choices ...int64) int64 { return choices[rng.IntN(len(choices))] }
	s.Task = []string{"a", "b"}[rng.IntN(2)]
	s.ResponseMs = ms(500, 2000, 10_000)
	s.Retries, s.Optional = rng.IntN(4), rng.IntN(3) > 0
	s.DelayMs, s.RetryDelayMs = ms(0, 0, 0, 500), ms(0, 100, 1500)
	s.PollMs, s.TaskMs, s.TotalMs = ms(0, 0, 4000), ms(0, 0, 5000), ms(0, 0, 9000)
	s.Big = int(ms(0, 0, 0, 3000))
	switch rng.IntN(4) {
	case 0:
		s.Limit = &enginetest.Limit{Key: s.Task, Concurrency: 1 + rng.IntN(2)}
	case 1:
		s.Limit = &enginetest.Limit{Key: "rate", Rate: 3, WindowMs: 1000}
	}
	return s
}

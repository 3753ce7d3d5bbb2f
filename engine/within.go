package engine

import "github.com/tutti-run/tutti"

// Within applies a command to a run of a namespace. To other namespaces the run does not
// exist.
type Within struct {
	Namespace string
	Run       tutti.RunID
	Command   Command
}

func (c Within) apply(b *Batch) (any, error) {
	if r := b.run(c.Run); r == nil || r.Namespace != c.Namespace {
		return nil, errNoRun(c.Run)
	}
	return c.Command.apply(b)
}

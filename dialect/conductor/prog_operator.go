package conductor

import "github.com/tutti-run/tutti"

func unsupportedAction(what string) error {
	return tutti.E(tutti.Unsupported, what, "NotYet", what+" is not supported")
}

func (x *exec) retryRun(bool) error      { return unsupportedAction("retry") }
func (x *exec) rerun(tutti.Event) error  { return unsupportedAction("rerun") }
func (x *exec) reopened(tutti.Seq) error { return unsupportedAction("reopen") }
func (x *exec) skip(tutti.Event) error   { return unsupportedAction("skip") }
func (x *exec) skipped(site) tutti.Seq   { return 0 }

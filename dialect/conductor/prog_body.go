package conductor

import (
	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// endOfBody is the node after the last one of the main chain, of a fork's branch, or of a
// loop's body. Which of them it is says the frame that the ended task lives in.
const endOfBody = -1

// body is a compiled list of tasks: that of a definition, or a single task that was forked
// dynamically. Nodes are in depth-first order, so what is nested in a node follows it.
type body struct {
	nodes []node
	refs  map[string]int32 // node by task reference name
	first int32            // where execution begins; endOfBody when there is nothing
}

// node is one task of a definition. Since next already leads out of the branches of a
// SWITCH, a position in a program is just a node and a frame.
type node struct {
	index     int32
	task      *WorkflowTask
	run       op
	next      int32
	scope     int32 // FORK or DO_WHILE node whose branch or body the node is in; -1 = none
	branch    int32 // which branch of that FORK
	end       int32 // one after the last node nested in this one
	heads     []int32
	cases     map[string]int32
	fallback  int32
	join      int32   // FORK: its JOIN; JOIN: its FORK; -1 = none
	slots     []int32 // JOIN: nodes it waits for; -1 = unknown. Empty joinOn: ends of branches
	all       bool    // JOIN without joinOn: waits for the branches themselves
	fallbacks []int32 // EXCLUSIVE_JOIN: nodes to look at when none of slots has ended
	watchers  []int32 // JOINs and EXCLUSIVE_JOINs that name this node
	input     *TaskInput
	checkIn   checker
	checkOut  checker
	notices   map[string][]notice // by state
	extra     *Template           // what the type keeps besides inputParameters; may be nil
	cacheKey  *Template           // nil when outputs are not to be reused
}

// flattener builds a body.
type flattener struct {
	b *body
}

// compileBody flattens tasks. What the definition lacks shows when a run gets there, as in
// the official server.
func compileBody(tasks []*WorkflowTask) *body {
	f := flattener{b: &body{refs: map[string]int32{}}}
	f.b.first = f.chain(tasks, -1, 0, endOfBody)
	f.link()
	return f.b
}

// compileDynamic compiles a task that was forked dynamically from its JSON.
func compileDynamic(src value.Raw) (*body, error) {
	v, err := src.Parse()
	if err != nil {
		return nil, err
	}
	t, err := WorkflowTaskFrom(v)
	if err != nil {
		return nil, err
	}
	return compileBody([]*WorkflowTask{t}), nil
}

// compileExtra compiles what a type of task keeps outside inputParameters.
func compileExtra(t *WorkflowTask) *Template {
	switch {
	case t.Type == TypeEvent:
		return CompileTemplate(t.Sink)
	case t.Type == TypeDoWhile && t.Items != "":
		return CompileTemplate(t.Items)
	case t.SubWorkflowParam != nil:
		return CompileTemplate(subWorkflowTemplate(t.SubWorkflowParam))
	}
	return nil
}

// chain lays out a list of tasks and returns its first node, or after when it is empty.
func (f *flattener) chain(tasks []*WorkflowTask, scope, branch, after int32) int32 {
	if len(tasks) == 0 {
		return after
	}
	var last int32
	first := int32(len(f.b.nodes))
	for i, t := range tasks {
		at := int32(len(f.b.nodes))
		if i > 0 {
			f.setNext(last, at)
		}
		last = at
		f.add(t, scope, branch)
	}
	f.setNext(last, after)
	return first
}

// setNext makes after follow a node and whatever ends in it: the branches of a SWITCH.
func (f *flattener) setNext(at, after int32) {
	f.b.nodes[at].next = after
	for i := at; i < f.b.nodes[at].end; i++ {
		m := &f.b.nodes[i]
		if m.next == unset(at) {
			m.next = after
		}
		if m.fallback == unset(at) {
			m.fallback = after
		}
		for key, head := range m.cases {
			if head == unset(at) {
				m.cases[key] = after
			}
		}
	}
}

// unset stands for "what follows node at" until that is known.
func unset(at int32) int32 { return -2 - at }

func (f *flattener) add(t *WorkflowTask, scope, branch int32) {
	at := int32(len(f.b.nodes))
	n := node{
		index: at, task: t, run: opFor(t.Type), scope: scope, branch: branch, join: -1,
		fallback: endOfBody,
	}
	var template *value.Object
	if d := t.TaskDefinition; d != nil {
		template = d.InputTemplate
		n.checkIn = newChecker(d.EnforceSchema, d.InputSchema)
		n.checkOut = newChecker(d.EnforceSchema, d.OutputSchema)
	}
	n.input, n.extra = CompileTaskInput(t.InputParameters, template), compileExtra(t)
	n.notices = compileNotices(t)
	if c := t.CacheConfig; c != nil && c.Key != "" && c.TTLInSecond > 0 {
		n.cacheKey = CompileTemplate(c.Key)
	}
	f.b.nodes = append(f.b.nodes, n)
	if _, ok := f.b.refs[t.TaskReferenceName]; !ok {
		f.b.refs[t.TaskReferenceName] = at
	}
	f.nested(t, at, scope, branch)
	f.b.nodes[at].end = int32(len(f.b.nodes))
}

func (f *flattener) nested(t *WorkflowTask, at, scope, branch int32) {
	switch t.Type {
	case TypeSwitch, TypeDecision:
		f.choices(t, at, scope, branch)
	case TypeForkJoin:
		for i, tasks := range t.ForkTasks {
			head := f.chain(tasks, at, int32(i), endOfBody)
			f.b.nodes[at].heads = append(f.b.nodes[at].heads, head)
		}
	case TypeDoWhile:
		head := f.chain(t.LoopOver, at, 0, endOfBody)
		f.b.nodes[at].heads = []int32{head}
	}
}

func (f *flattener) choices(t *WorkflowTask, at, scope, branch int32) {
	cases := make(map[string]int32, len(t.DecisionCases))
	for _, g := range t.DecisionCases {
		if len(g.List) == 0 && t.Type == TypeDecision {
			continue // an empty branch of a DECISION falls through to the default
		}
		cases[g.Key] = f.chain(g.List, scope, branch, unset(at))
	}
	fallback := f.chain(t.DefaultCase, scope, branch, unset(at))
	f.b.nodes[at].cases, f.b.nodes[at].fallback = cases, fallback
}

// link connects forks with their joins and joins with what they wait for.
func (f *flattener) link() {
	for i := range f.b.nodes {
		n := &f.b.nodes[i]
		if t := n.task.Type; t != TypeForkJoin && t != TypeForkJoinDynamic {
			continue
		}
		if j := n.next; j >= 0 && f.b.nodes[j].task.Type == TypeJoin {
			n.join, f.b.nodes[j].join = j, n.index
		}
	}
	for i := range f.b.nodes {
		f.linkJoin(&f.b.nodes[i])
	}
}

func (f *flattener) linkJoin(j *node) {
	switch {
	case j.task.Type == TypeExclusiveJoin:
		j.fallbacks = f.watch(j, j.task.DefaultExclusiveJoinTask)
	case j.task.Type != TypeJoin:
		return
	case j.join >= 0 && f.b.nodes[j.join].task.Type == TypeForkJoinDynamic:
		j.all = true // joinOn of the definition is ignored
		return
	case len(j.task.JoinOn) == 0:
		j.all = true
		if j.join >= 0 {
			j.slots = f.lastOfBranches(j.join)
		}
		return
	}
	j.slots = f.watch(j, j.task.JoinOn)
}

// watch registers j with the nodes of the given names, and returns them.
func (f *flattener) watch(j *node, refs []string) []int32 {
	slots := make([]int32, len(refs))
	for i, ref := range refs {
		at, ok := f.b.refs[ref]
		if !ok {
			slots[i] = -1
			continue
		}
		slots[i] = at
		f.b.nodes[at].watchers = append(f.b.nodes[at].watchers, j.index)
	}
	return slots
}

// lastOfBranches returns the last listed task of each branch that has any.
func (f *flattener) lastOfBranches(fork int32) []int32 {
	var last []int32
	for _, branch := range f.b.nodes[fork].task.ForkTasks {
		if len(branch) > 0 {
			last = append(last, f.b.refs[branch[len(branch)-1].TaskReferenceName])
		}
	}
	return last
}

// within reports whether a node is, at any depth, in one branch of a fork.
func (b *body) within(at, fork, branch int32) bool {
	for at >= 0 {
		n := &b.nodes[at]
		if n.scope == fork {
			return n.branch == branch
		}
		at = n.scope
	}
	return false
}

// site is a place in a run: a node, and the frame in which it is or will be.
type site struct {
	frame *tutti.Frame
	body  *body
	home  tutti.Seq // dynamic task that the body was compiled from; 0 = the definition
	node  *node
	head  []byte    // source of a dynamic task, for the task that is its home
	fork  tutti.Seq // FORK task that starts the dynamic task of head
}

// at returns the site of another node of the same body in the same frame.
func (s site) at(index int32) site {
	s.node, s.head, s.fork = &s.body.nodes[index], nil, 0
	return s
}

func (s site) scope() scopeState { return s.frame.State.(scopeState) }

package conductorgrpc

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tutti-run/tutti/api/pb/conductor/conductorpb"
	"github.com/tutti-run/tutti/api/pb/conductor/taskspb"
	"github.com/tutti-run/tutti/api/pb/conductor/workflowspb"
	"github.com/tutti-run/tutti/value"
)

// messages are all that have a JSON form.
var messages = []proto.Message{
	&conductorpb.CacheConfig{}, &conductorpb.DynamicForkJoinTask{},
	&conductorpb.DynamicForkJoinTaskList{}, &conductorpb.EventExecution{},
	&conductorpb.EventHandler{}, &conductorpb.ExecutionMetadata{}, &conductorpb.PollData{},
	&conductorpb.RateLimitConfig{}, &conductorpb.RerunWorkflowRequest{},
	&conductorpb.SchemaDef{}, &conductorpb.SkipTaskRequest{},
	&conductorpb.StartWorkflowRequest{}, &conductorpb.StateChangeEvent{},
	&conductorpb.SubWorkflowParams{}, &conductorpb.Task{}, &conductorpb.TaskDef{},
	&conductorpb.TaskExecLog{}, &conductorpb.TaskResult{}, &conductorpb.TaskSummary{},
	&conductorpb.UpgradeWorkflowRequest{}, &conductorpb.Workflow{},
	&conductorpb.WorkflowDef{}, &conductorpb.WorkflowDefSummary{},
	&conductorpb.WorkflowSummary{}, &conductorpb.WorkflowTask{},
	&taskspb.QueueAllInfoResponse{}, &taskspb.QueueInfoResponse{},
	&taskspb.QueueSizesResponse{}, &taskspb.TaskSearchResult{},
	&workflowspb.GetWorkflowsResponse{}, &workflowspb.WorkflowSearchResult{},
}

func roundTrip(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := encode(m)
	if err != nil {
		t.Fatalf("%s: %v", m.ProtoReflect().Descriptor().FullName(), err)
	}
	if err := value.Check(b, value.DefaultLimits); err != nil {
		t.Fatalf("%s is no JSON: %v", b, err)
	}
	again := m.ProtoReflect().New().Interface()
	if err := decode(b, again); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if diff := cmp.Diff(m, again, protocmp.Transform()); diff != "" {
		t.Errorf("%s came back changed: %s", b, diff)
	}
	return b
}

// fill sets every field of a message to something that is not its zero value.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		element := func(v protoreflect.Value) protoreflect.Value {
			e := fd
			if fd.IsMap() {
				e = fd.MapValue()
			}
			switch e.Kind() {
			case protoreflect.MessageKind:
				switch x := v.Message().Interface().(type) {
				case *structpb.Value:
					proto.Merge(x, toValue(value.Number("1.5")))
				case *anypb.Any:
					x.TypeUrl, x.Value = "type/x", []byte{1, 2, 3}
				default:
					fill(v.Message(), depth+1)
				}
				return v
			case protoreflect.StringKind:
				return protoreflect.ValueOfString(fmt.Sprintf("text %d \"ü\n", i))
			case protoreflect.BoolKind:
				return protoreflect.ValueOfBool(true)
			case protoreflect.Int32Kind:
				return protoreflect.ValueOfInt32(math.MinInt32 + int32(i))
			case protoreflect.Int64Kind:
				return protoreflect.ValueOfInt64(math.MaxInt64 - int64(i))
			case protoreflect.EnumKind:
				return protoreflect.ValueOfEnum(
					protoreflect.EnumNumber(e.Enum().Values().Len() - 1))
			}
			panic(e.Kind())
		}
		deep := depth > 3 && fd.Kind() == protoreflect.MessageKind
		switch {
		case deep && !(fd.IsMap() && fd.MapValue().Kind() != protoreflect.MessageKind):
		case fd.IsMap():
			mm := m.Mutable(fd).Map()
			for _, k := range []string{"", "b", "a\x00"} {
				mm.Set(protoreflect.ValueOfString(k).MapKey(), element(mm.NewValue()))
			}
		case fd.IsList():
			l := m.Mutable(fd).List()
			l.Append(element(l.NewElement()))
			l.Append(element(l.NewElement()))
		default:
			m.Set(fd, element(m.NewField(fd)))
		}
	}
}

func TestEveryMessage(t *testing.T) {
	for _, m := range messages {
		roundTrip(t, m)
		full := m.ProtoReflect().New()
		fill(full, 1)
		roundTrip(t, full.Interface())
	}
}

// TestNames compares the names of fields with those of the REST API's document.
func TestNames(t *testing.T) {
	b, err := os.ReadFile("../schemas.json")
	if err != nil {
		t.Fatal(err)
	}
	var schemas map[string]struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(b, &schemas); err != nil {
		t.Fatal(err)
	}
	// Fields that this server never has anything to say in, or that only gRPC has.
	ours := []string{
		"inputMessage", "outputMessage", "taskInputMessage", "taskOutputMessage",
		"externalInputPayloadStoragePath", "externalOutputPayloadStoragePath",
		"executionMetadata", "parentTaskId", "subWorkflowId", "supportsCancellation",
		"start_agent",
	}
	checked := 0
	var check func(d protoreflect.MessageDescriptor)
	check = func(d protoreflect.MessageDescriptor) {
		for i := range d.Messages().Len() {
			check(d.Messages().Get(i))
		}
		schema, ok := schemas[string(d.Name())]
		if !ok {
			return
		}
		for name := range fieldsOf(d) {
			checked++
			if _, ok := schema.Properties[name]; !ok && !slices.Contains(ours, name) {
				t.Errorf("%s has no property %s", d.Name(), name)
			}
		}
	}
	for _, m := range messages {
		check(m.ProtoReflect().Descriptor())
	}
	if checked < 100 {
		t.Errorf("only %d fields were compared", checked)
	}
}

func TestForms(t *testing.T) {
	num := func(f float64) map[string]*structpb.Value {
		return map[string]*structpb.Value{"n": structpb.NewNumberValue(f)}
	}
	def := func(task *conductorpb.WorkflowTask) *conductorpb.WorkflowTask { return task }
	for _, tt := range []struct {
		m    proto.Message
		want string
	}{
		{
			&conductorpb.TaskResult{TaskId: "t", OutputData: num(5)},
			`{"taskId":"t","status":"IN_PROGRESS","outputData":{"n":5}}`,
		},
		{
			&conductorpb.TaskDef{Name: "x"},
			`{"name":"x","retryCount":0,"timeoutPolicy":"RETRY","retryLogic":"FIXED",` +
				`"retryDelaySeconds":0}`,
		},
		{
			&conductorpb.EventHandler{Name: "h", Actions: []*conductorpb.EventHandler_Action{{
				Action:           conductorpb.EventHandler_Action_COMPLETE_TASK,
				CompleteTask:     &conductorpb.EventHandler_TaskDetails{TaskRefName: "r"},
				ExpandInlineJson: true,
			}}},
			`{"name":"h","actions":[{"action":"complete_task","complete_task":` +
				`{"taskRefName":"r"},"expandInlineJSON":true}]}`,
		},
		{
			&conductorpb.EventHandler_Action{},
			`{"action":"start_workflow"}`,
		},
		{
			def(&conductorpb.WorkflowTask{
				Name: "f",
				ForkTasks: []*conductorpb.WorkflowTask_WorkflowTaskList{
					{Tasks: []*conductorpb.WorkflowTask{{Name: "a"}}}, {},
				},
				DecisionCases: map[string]*conductorpb.WorkflowTask_WorkflowTaskList{
					"y": {Tasks: []*conductorpb.WorkflowTask{{Name: "b"}}}, "x": {},
				},
			}),
			`{"name":"f","decisionCases":{"x":[],"y":[{"name":"b"}]},` +
				`"forkTasks":[[{"name":"a"}],[]]}`,
		},
		{
			&conductorpb.SubWorkflowParams{
				Name: "s", WorkflowDefinition: structpb.NewStringValue("${x}"),
			},
			`{"name":"s","workflowDefinition":"${x}"}`,
		},
	} {
		got := string(roundTrip(t, tt.m))
		if got = strings.ReplaceAll(got, `"retryLogic":"FIXED",`, ""); got != strings.ReplaceAll(
			tt.want, `"retryLogic":"FIXED",`, "") {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}

// TestNumbers checks that integers stay what they are as far as a double can hold them.
func TestNumbers(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "5": "5", "-5": "-5", "5.0": "5", "1.5": "1.5", "1e3": "1000",
		"9007199254740992": "9007199254740992", "-9007199254740992": "-9007199254740992",
		"9007199254740993":      "9007199254740992", // lost: 2^53+1
		"9223372036854775807":   "9223372036854775808",
		"100000000000000000000": "100000000000000000000",
		"1e21":                  "1e+21", "1e-7": "1e-07", "0.1": "0.1", "123456789.125": "123456789.125",
		"1e999": "1.7976931348623157e+308", "-1e999": "-1.7976931348623157e+308", "1e-999": "0",
	} {
		var m conductorpb.TaskResult
		if err := decode([]byte(`{"outputData":{"n":`+text+`}}`), &m); err != nil {
			t.Fatal(err)
		}
		b, err := encode(&m)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(b); got != `{"status":"IN_PROGRESS","outputData":{"n":`+want+`}}` {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		m := &conductorpb.TaskResult{OutputData: map[string]*structpb.Value{
			"n": structpb.NewNumberValue(f),
		}}
		if b, err := encode(m); err == nil {
			t.Errorf("%v became %s", f, b)
		}
	}
}

func TestScalars(t *testing.T) {
	for text, want := range map[string]*conductorpb.Task{
		`{"seq":7,"iteration":"8","retried":true,"taskType":"A"}`: {
			Seq: 7, Iteration: 8, Retried: true, TaskType: "A",
		},
		`{"seq":null,"taskType":null,"inputData":null,"workflowTask":null}`: {},
		`{"seq":99999999999,"pollCount":-99999999999}`: {
			Seq: math.MaxInt32, PollCount: math.MinInt32,
		},
		`{"endTime":99999999999999999999,"startTime":-99999999999999999999}`: {
			EndTime: math.MaxInt64, StartTime: math.MinInt64,
		},
		`{"taskType":5,"domain":false,"seq":5.0,"unknown":{"a":[1]}}`: {
			TaskType: "5", Domain: "false", Seq: 5,
		},
		`{"status":"COMPLETED","inputData":{"x":null,"y":[]}}`: {
			Status: conductorpb.Task_COMPLETED, InputData: map[string]*structpb.Value{
				"x": structpb.NewNullValue(),
				"y": structpb.NewListValue(&structpb.ListValue{}),
			},
		},
	} {
		got := &conductorpb.Task{}
		if err := decode([]byte(text), got); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for _, text := range []string{
		``, `{`, `[]`, `"x"`, `{"seq":1.5}`, `{"seq":"x"}`, `{"seq":true}`, `{"retried":"yes"}`,
		`{"status":"DONE"}`, `{"status":3}`, `{"taskType":{}}`, `{"inputData":[]}`,
		`{"workflowTask":[]}`, `{"workflowTask":{"joinOn":{}}}`,
		`{"workflowTask":{"forkTasks":[{}]}}`, `{"workflowTask":{"joinOn":[{}]}}`,
		`{"inputMessage":{"@value":"%"}}`, `{"inputMessage":1}`, `{"runtimeMetadata":{"a":[]}}`,
	} {
		if err := decode([]byte(text), &conductorpb.Task{}); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

// TestDepth checks that nesting is bounded on the way in.
func TestDepth(t *testing.T) {
	deep := structpb.NewNullValue()
	for range value.DefaultLimits.Depth + 1 {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	m := &conductorpb.TaskResult{OutputData: map[string]*structpb.Value{"n": deep}}
	if _, err := encode(m); err == nil {
		t.Error("a value nested too deep was written")
	}
	loop := &conductorpb.WorkflowTask{}
	for range value.DefaultLimits.Depth {
		loop = &conductorpb.WorkflowTask{LoopOver: []*conductorpb.WorkflowTask{loop}}
	}
	if _, err := encode(loop); err == nil {
		t.Error("a message nested too deep was written")
	}
	bad := &conductorpb.Task{Status: 99}
	if b, err := encode(bad); err == nil {
		t.Errorf("a status that is none became %s", b)
	}
}

// FuzzDecode puts any text into messages: it never panics, and what was taken comes back
// the same.
func FuzzDecode(f *testing.F) {
	for _, m := range messages {
		full := m.ProtoReflect().New()
		fill(full, 3)
		if b, err := encode(full.Interface()); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte(`{"inputData":{"n":1e999,"x":"\ud800"},"status":"COMPLETED"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, fresh := range []proto.Message{
			&conductorpb.Task{}, &conductorpb.WorkflowDef{}, &conductorpb.EventHandler{},
			&taskspb.QueueAllInfoResponse{},
		} {
			if decode(b, fresh) == nil {
				wire, err := proto.Marshal(fresh)
				if err != nil {
					t.Fatalf("%q cannot be sent: %v", b, err)
				}
				sent := fresh.ProtoReflect().New().Interface()
				if err := proto.Unmarshal(wire, sent); err == nil {
					checkSame(t, sent)
				}
			}
		}
	})
}

// FuzzEncode puts any message into JSON: it never panics, and what has a form comes back the
// same.
func FuzzEncode(f *testing.F) {
	for _, m := range messages {
		full := m.ProtoReflect().New()
		fill(full, 3)
		if b, err := proto.Marshal(full.Interface()); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, fresh := range []proto.Message{
			&conductorpb.TaskResult{}, &conductorpb.WorkflowDef{}, &conductorpb.EventHandler{},
			&conductorpb.StartWorkflowRequest{},
		} {
			if proto.Unmarshal(b, fresh) == nil {
				checkSame(t, fresh)
			}
		}
	})
}

// checkSame compares the JSON of a message with that of its copy through JSON.
func checkSame(t *testing.T, m proto.Message) {
	t.Helper()
	b, err := encode(m)
	if err != nil {
		return
	}
	again := m.ProtoReflect().New().Interface()
	if err := decode(b, again); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	if c, err := encode(again); err != nil || string(b) != string(c) {
		t.Errorf("%s became %s (%v)", b, c, err)
	}
}

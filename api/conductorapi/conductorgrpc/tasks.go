package conductorgrpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/tutti-run/tutti/api/pb/conductor/conductorpb"
	"github.com/tutti-run/tutti/api/pb/conductor/searchpb"
	pb "github.com/tutti-run/tutti/api/pb/conductor/taskspb"
	"github.com/tutti-run/tutti/value"
)

type taskService struct {
	pb.UnimplementedTaskServiceServer
	backend
}

// Poll answers one task, or none when there is none.
func (s *taskService) Poll(ctx context.Context, r *pb.PollRequest) (*pb.PollResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "GET /api/tasks/poll/{tasktype}", path: []string{r.GetTaskType()},
		query: map[string]any{"workerid": r.GetWorkerId(), "domain": r.GetDomain()},
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.PollResponse{}
	return rep, asStatus(decode(under("task", out), rep))
}

// BatchPoll sends up to count tasks (1 when not given), waiting up to timeout milliseconds
// (100 when not given) for the first.
func (s *taskService) BatchPoll(
	r *pb.BatchPollRequest, out grpc.ServerStreamingServer[conductorpb.Task],
) error {
	list, err := s.do(out.Context(), operation{
		endpoint: "GET /api/tasks/poll/batch/{tasktype}", path: []string{r.GetTaskType()},
		query: map[string]any{
			"workerid": r.GetWorkerId(), "domain": r.GetDomain(),
			"count": number(r.GetCount()), "timeout": number(r.GetTimeout()),
		},
	})
	if err != nil {
		return err
	}
	return each(list, func() *conductorpb.Task { return &conductorpb.Task{} }, out.Send)
}

func (s *taskService) UpdateTask(
	ctx context.Context, r *pb.UpdateTaskRequest,
) (*pb.UpdateTaskResponse, error) {
	id, err := s.do(ctx, operation{endpoint: "POST /api/tasks", body: r.GetResult()})
	return &pb.UpdateTaskResponse{TaskId: string(id)}, err
}

func (s *taskService) AddLog(
	ctx context.Context, r *pb.AddLogRequest,
) (*pb.AddLogResponse, error) {
	_, err := s.do(ctx, operation{
		endpoint: "POST /api/tasks/{taskId}/log", path: []string{r.GetTaskId()},
		raw: value.Marshal(r.GetLog()),
	})
	return &pb.AddLogResponse{}, err
}

func (s *taskService) GetTaskLogs(
	ctx context.Context, r *pb.GetTaskLogsRequest,
) (*pb.GetTaskLogsResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "GET /api/tasks/{taskId}/log", path: []string{r.GetTaskId()},
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.GetTaskLogsResponse{}
	return rep, asStatus(decode(under("logs", out), rep))
}

func (s *taskService) GetTask(
	ctx context.Context, r *pb.GetTaskRequest,
) (*pb.GetTaskResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "GET /api/tasks/{taskId}", path: []string{r.GetTaskId()},
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.GetTaskResponse{}
	return rep, asStatus(decode(under("task", out), rep))
}

func (s *taskService) GetQueueSizesForTasks(
	ctx context.Context, r *pb.QueueSizesRequest,
) (*pb.QueueSizesResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "GET /api/tasks/queue/sizes",
		query:    map[string]any{"taskType": r.GetTaskTypes()},
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.QueueSizesResponse{}
	return rep, asStatus(decode(under("queueForTask", out), rep))
}

func (s *taskService) GetQueueInfo(
	ctx context.Context, _ *pb.QueueInfoRequest,
) (*pb.QueueInfoResponse, error) {
	out, err := s.do(ctx, operation{endpoint: "GET /api/tasks/queue/all"})
	if err != nil {
		return nil, err
	}
	rep := &pb.QueueInfoResponse{}
	return rep, asStatus(decode(under("queues", out), rep))
}

func (s *taskService) GetQueueAllInfo(
	ctx context.Context, _ *pb.QueueAllInfoRequest,
) (*pb.QueueAllInfoResponse, error) {
	out, err := s.do(ctx, operation{endpoint: "GET /api/tasks/queue/all/verbose"})
	if err != nil {
		return nil, err
	}
	rep := &pb.QueueAllInfoResponse{}
	return rep, asStatus(decode(under("queues", out), rep))
}

// search is the operation of a search.
func search(endpoint string, r *searchpb.Request) operation {
	return operation{endpoint: endpoint, query: map[string]any{
		"start": number(r.GetStart()), "size": number(r.GetSize()), "sort": r.GetSort(),
		"freeText": r.GetFreeText(), "query": r.GetQuery(),
	}}
}

func (s *taskService) Search(
	ctx context.Context, r *searchpb.Request,
) (*pb.TaskSummarySearchResult, error) {
	rep := &pb.TaskSummarySearchResult{}
	return rep, s.read(ctx, search("GET /api/tasks/search", r), rep)
}

func (s *taskService) SearchV2(
	ctx context.Context, r *searchpb.Request,
) (*pb.TaskSearchResult, error) {
	rep := &pb.TaskSearchResult{}
	return rep, s.read(ctx, search("GET /api/tasks/search-v2", r), rep)
}

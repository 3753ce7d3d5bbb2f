package conductorgrpc

import (
	"context"

	"github.com/tutti-run/tutti/api/pb/conductor/conductorpb"
	"github.com/tutti-run/tutti/api/pb/conductor/searchpb"
	pb "github.com/tutti-run/tutti/api/pb/conductor/workflowspb"
)

type workflowService struct {
	pb.UnimplementedWorkflowServiceServer
	backend
}

func (s *workflowService) StartWorkflow(
	ctx context.Context, r *conductorpb.StartWorkflowRequest,
) (*pb.StartWorkflowResponse, error) {
	id, err := s.do(ctx, operation{endpoint: "POST /api/workflow", body: r})
	return &pb.StartWorkflowResponse{WorkflowId: string(id)}, err
}

func (s *workflowService) GetWorkflows(
	ctx context.Context, r *pb.GetWorkflowsRequest,
) (*pb.GetWorkflowsResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "POST /api/workflow/{name}/correlated", path: []string{r.GetName()},
		query: map[string]any{
			"includeClosed": r.GetIncludeClosed(), "includeTasks": r.GetIncludeTasks(),
		},
		raw: names(r.GetCorrelationId()),
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.GetWorkflowsResponse{}
	return rep, asStatus(decode(under("workflowsById", out), rep))
}

func (s *workflowService) GetWorkflowStatus(
	ctx context.Context, r *pb.GetWorkflowStatusRequest,
) (*conductorpb.Workflow, error) {
	rep := &conductorpb.Workflow{}
	return rep, s.read(ctx, operation{
		endpoint: "GET /api/workflow/{workflowId}", path: []string{r.GetWorkflowId()},
		query: map[string]any{"includeTasks": r.GetIncludeTasks()},
	}, rep)
}

func (s *workflowService) RemoveWorkflow(
	ctx context.Context, r *pb.RemoveWorkflowRequest,
) (*pb.RemoveWorkflowResponse, error) {
	_, err := s.do(ctx, operation{
		endpoint: "DELETE /api/workflow/{workflowId}/remove", path: []string{r.GetWorkflodId()},
		query: map[string]any{"archiveWorkflow": r.GetArchiveWorkflow()},
	})
	return &pb.RemoveWorkflowResponse{}, err
}

func (s *workflowService) GetRunningWorkflows(
	ctx context.Context, r *pb.GetRunningWorkflowsRequest,
) (*pb.GetRunningWorkflowsResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "GET /api/workflow/running/{name}", path: []string{r.GetName()},
		query: map[string]any{
			"version": number(r.GetVersion()), "startTime": number(r.GetStartTime()),
			"endTime": number(r.GetEndTime()),
		},
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.GetRunningWorkflowsResponse{}
	return rep, asStatus(decode(under("workflowIds", out), rep))
}

// control performs an operation on a workflow that answers nothing.
func (s *workflowService) control(
	ctx context.Context, endpoint, id string, query map[string]any,
) error {
	_, err := s.do(ctx, operation{endpoint: endpoint, path: []string{id}, query: query})
	return err
}

func (s *workflowService) DecideWorkflow(
	ctx context.Context, r *pb.DecideWorkflowRequest,
) (*pb.DecideWorkflowResponse, error) {
	return &pb.DecideWorkflowResponse{}, s.control(
		ctx, "PUT /api/workflow/decide/{workflowId}", r.GetWorkflowId(), nil)
}

func (s *workflowService) PauseWorkflow(
	ctx context.Context, r *pb.PauseWorkflowRequest,
) (*pb.PauseWorkflowResponse, error) {
	return &pb.PauseWorkflowResponse{}, s.control(
		ctx, "PUT /api/workflow/{workflowId}/pause", r.GetWorkflowId(), nil)
}

func (s *workflowService) ResumeWorkflow(
	ctx context.Context, r *pb.ResumeWorkflowRequest,
) (*pb.ResumeWorkflowResponse, error) {
	return &pb.ResumeWorkflowResponse{}, s.control(
		ctx, "PUT /api/workflow/{workflowId}/resume", r.GetWorkflowId(), nil)
}

func (s *workflowService) SkipTaskFromWorkflow(
	ctx context.Context, r *pb.SkipTaskRequest,
) (*pb.SkipTaskResponse, error) {
	op := operation{
		endpoint: "PUT /api/workflow/{workflowId}/skiptask/{taskReferenceName}",
		path:     []string{r.GetWorkflowId(), r.GetTaskReferenceName()},
	}
	if r.GetRequest() != nil {
		op.body = r.GetRequest()
	}
	_, err := s.do(ctx, op)
	return &pb.SkipTaskResponse{}, err
}

func (s *workflowService) RerunWorkflow(
	ctx context.Context, r *conductorpb.RerunWorkflowRequest,
) (*pb.RerunWorkflowResponse, error) {
	id, err := s.do(ctx, operation{
		endpoint: "POST /api/workflow/{workflowId}/rerun",
		path:     []string{r.GetReRunFromWorkflowId()}, body: r,
	})
	return &pb.RerunWorkflowResponse{WorkflowId: string(id)}, err
}

func (s *workflowService) RestartWorkflow(
	ctx context.Context, r *pb.RestartWorkflowRequest,
) (*pb.RestartWorkflowResponse, error) {
	return &pb.RestartWorkflowResponse{}, s.control(
		ctx, "POST /api/workflow/{workflowId}/restart", r.GetWorkflowId(),
		map[string]any{"useLatestDefinitions": r.GetUseLatestDefinitions()})
}

func (s *workflowService) RetryWorkflow(
	ctx context.Context, r *pb.RetryWorkflowRequest,
) (*pb.RetryWorkflowResponse, error) {
	return &pb.RetryWorkflowResponse{}, s.control(
		ctx, "POST /api/workflow/{workflowId}/retry", r.GetWorkflowId(),
		map[string]any{"resumeSubworkflowTasks": r.GetResumeSubworkflowTasks()})
}

func (s *workflowService) ResetWorkflowCallbacks(
	ctx context.Context, r *pb.ResetWorkflowCallbacksRequest,
) (*pb.ResetWorkflowCallbacksResponse, error) {
	return &pb.ResetWorkflowCallbacksResponse{}, s.control(
		ctx, "POST /api/workflow/{workflowId}/resetcallbacks", r.GetWorkflowId(), nil)
}

func (s *workflowService) TerminateWorkflow(
	ctx context.Context, r *pb.TerminateWorkflowRequest,
) (*pb.TerminateWorkflowResponse, error) {
	return &pb.TerminateWorkflowResponse{}, s.control(
		ctx, "DELETE /api/workflow/{workflowId}", r.GetWorkflowId(),
		map[string]any{"reason": r.GetReason()})
}

func (s *workflowService) Search(
	ctx context.Context, r *searchpb.Request,
) (*pb.WorkflowSummarySearchResult, error) {
	rep := &pb.WorkflowSummarySearchResult{}
	return rep, s.read(ctx, search("GET /api/workflow/search", r), rep)
}

func (s *workflowService) SearchByTasks(
	ctx context.Context, r *searchpb.Request,
) (*pb.WorkflowSummarySearchResult, error) {
	rep := &pb.WorkflowSummarySearchResult{}
	return rep, s.read(ctx, search("GET /api/workflow/search-by-tasks", r), rep)
}

func (s *workflowService) SearchV2(
	ctx context.Context, r *searchpb.Request,
) (*pb.WorkflowSearchResult, error) {
	rep := &pb.WorkflowSearchResult{}
	return rep, s.read(ctx, search("GET /api/workflow/search-v2", r), rep)
}

func (s *workflowService) SearchByTasksV2(
	ctx context.Context, r *searchpb.Request,
) (*pb.WorkflowSearchResult, error) {
	rep := &pb.WorkflowSearchResult{}
	return rep, s.read(ctx, search("GET /api/workflow/search-by-tasks-v2", r), rep)
}

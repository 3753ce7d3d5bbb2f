package conductorgrpc

import (
	"context"

	pb "github.com/tutti-run/tutti/api/pb/conductor/metadatapb"
)

type metadataService struct {
	pb.UnimplementedMetadataServiceServer
	backend
}

func (s *metadataService) CreateWorkflow(
	ctx context.Context, r *pb.CreateWorkflowRequest,
) (*pb.CreateWorkflowResponse, error) {
	_, err := s.do(ctx, operation{endpoint: "POST /api/metadata/workflow", body: r.GetWorkflow()})
	return &pb.CreateWorkflowResponse{}, err
}

func (s *metadataService) ValidateWorkflow(
	ctx context.Context, r *pb.ValidateWorkflowRequest,
) (*pb.ValidateWorkflowResponse, error) {
	_, err := s.do(ctx, operation{
		endpoint: "POST /api/metadata/workflow/validate", body: r.GetWorkflow(),
	})
	return &pb.ValidateWorkflowResponse{}, err
}

func (s *metadataService) UpdateWorkflows(
	ctx context.Context, r *pb.UpdateWorkflowsRequest,
) (*pb.UpdateWorkflowsResponse, error) {
	body, err := encodeList(r.GetDefs())
	if err != nil {
		return nil, asStatus(err)
	}
	out, err := s.do(ctx, operation{endpoint: "PUT /api/metadata/workflow", raw: body})
	if err == nil {
		err = refusedIn(out)
	}
	return &pb.UpdateWorkflowsResponse{}, err
}

// GetWorkflow answers the newest version when none is named.
func (s *metadataService) GetWorkflow(
	ctx context.Context, r *pb.GetWorkflowRequest,
) (*pb.GetWorkflowResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "GET /api/metadata/workflow/{name}", path: []string{r.GetName()},
		query: map[string]any{"version": number(r.GetVersion())},
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.GetWorkflowResponse{}
	return rep, asStatus(decode(under("workflow", out), rep))
}

func (s *metadataService) CreateTasks(
	ctx context.Context, r *pb.CreateTasksRequest,
) (*pb.CreateTasksResponse, error) {
	body, err := encodeList(r.GetDefs())
	if err != nil {
		return nil, asStatus(err)
	}
	_, err = s.do(ctx, operation{endpoint: "POST /api/metadata/taskdefs", raw: body})
	return &pb.CreateTasksResponse{}, err
}

func (s *metadataService) UpdateTask(
	ctx context.Context, r *pb.UpdateTaskRequest,
) (*pb.UpdateTaskResponse, error) {
	_, err := s.do(ctx, operation{endpoint: "PUT /api/metadata/taskdefs", body: r.GetTask()})
	return &pb.UpdateTaskResponse{}, err
}

func (s *metadataService) GetTask(
	ctx context.Context, r *pb.GetTaskRequest,
) (*pb.GetTaskResponse, error) {
	out, err := s.do(ctx, operation{
		endpoint: "GET /api/metadata/taskdefs/{tasktype}", path: []string{r.GetTaskType()},
	})
	if err != nil {
		return nil, err
	}
	rep := &pb.GetTaskResponse{}
	return rep, asStatus(decode(under("task", out), rep))
}

func (s *metadataService) DeleteTask(
	ctx context.Context, r *pb.DeleteTaskRequest,
) (*pb.DeleteTaskResponse, error) {
	_, err := s.do(ctx, operation{
		endpoint: "DELETE /api/metadata/taskdefs/{tasktype}", path: []string{r.GetTaskType()},
	})
	return &pb.DeleteTaskResponse{}, err
}

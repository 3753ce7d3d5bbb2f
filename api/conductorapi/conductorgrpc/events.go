package conductorgrpc

import (
	"context"

	"google.golang.org/grpc"

	"github.com/tutti-run/tutti/api/pb/conductor/conductorpb"
	pb "github.com/tutti-run/tutti/api/pb/conductor/eventspb"
)

type eventService struct {
	pb.UnimplementedEventServiceServer
	backend
}

func (s *eventService) AddEventHandler(
	ctx context.Context, r *pb.AddEventHandlerRequest,
) (*pb.AddEventHandlerResponse, error) {
	_, err := s.do(ctx, operation{endpoint: "POST /api/event", body: r.GetHandler()})
	return &pb.AddEventHandlerResponse{}, err
}

func (s *eventService) UpdateEventHandler(
	ctx context.Context, r *pb.UpdateEventHandlerRequest,
) (*pb.UpdateEventHandlerResponse, error) {
	_, err := s.do(ctx, operation{endpoint: "PUT /api/event", body: r.GetHandler()})
	return &pb.UpdateEventHandlerResponse{}, err
}

func (s *eventService) RemoveEventHandler(
	ctx context.Context, r *pb.RemoveEventHandlerRequest,
) (*pb.RemoveEventHandlerResponse, error) {
	_, err := s.do(ctx, operation{
		endpoint: "DELETE /api/event/{name}", path: []string{r.GetName()},
	})
	return &pb.RemoveEventHandlerResponse{}, err
}

func (s *eventService) GetEventHandlers(
	_ *pb.GetEventHandlersRequest, out grpc.ServerStreamingServer[conductorpb.EventHandler],
) error {
	list, err := s.do(out.Context(), operation{endpoint: "GET /api/event"})
	if err != nil {
		return err
	}
	return each(list, newHandler, out.Send)
}

func (s *eventService) GetEventHandlersForEvent(
	r *pb.GetEventHandlersForEventRequest,
	out grpc.ServerStreamingServer[conductorpb.EventHandler],
) error {
	list, err := s.do(out.Context(), operation{
		endpoint: "GET /api/event/*", path: []string{r.GetEvent()},
		query: map[string]any{"activeOnly": r.GetActiveOnly()},
	})
	if err != nil {
		return err
	}
	return each(list, newHandler, out.Send)
}

func newHandler() *conductorpb.EventHandler { return &conductorpb.EventHandler{} }

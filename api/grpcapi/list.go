package grpcapi

import (
	"context"
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
)

// List answers a page of runs, newest first. A page ends early when its payloads grow large.
func (s *runs) List(
	ctx context.Context, r *tuttipb.ListRunsRequest,
) (*tuttipb.ListRunsReply, error) {
	statuses, err := runStatuses(r.Statuses)
	if err != nil {
		return nil, asStatus(err)
	}
	var page api.ListPage
	if len(r.Labels) > 0 || r.CorrelationId != "" || r.ParentRunId != "" {
		page, err = s.search(ctx, r, statuses)
	} else {
		page, err = s.list(ctx, r, statuses)
	}
	if err != nil {
		return nil, asStatus(err)
	}
	rep, err := s.readPage(ctx, r, page)
	return rep, asStatus(err)
}

func runStatuses(from []tuttipb.Run_Status) (list []tutti.RunStatus, err error) {
	for _, st := range from {
		if st <= tuttipb.Run_STATUS_UNSPECIFIED || tuttipb.Run_Status_name[int32(st)] == "" {
			return nil, tutti.E(tutti.Invalid, "list runs", "UnknownStatus",
				fmt.Sprintf("%d is no status of a run", st))
		}
		list = append(list, tutti.RunStatus(st-tuttipb.Run_RUNNING))
	}
	return list, nil
}

// list selects runs by what the index holds.
func (s *runs) list(
	ctx context.Context, r *tuttipb.ListRunsRequest, statuses []tutti.RunStatus,
) (api.ListPage, error) {
	q := api.ListQuery{Cursor: r.Cursor, Limit: int(r.PageSize)}
	q.Namespace, q.FromMs, q.ToMs, q.Statuses = namespace(r.Namespace),
		r.StartFromMs, r.StartToMs, statuses
	if r.Definition != "" {
		q.Definitions = []string{r.Definition}
	}
	return s.svc.List(ctx, q)
}

// search selects runs by correlation, label or parent too.
func (s *runs) search(
	ctx context.Context, r *tuttipb.ListRunsRequest, statuses []tutti.RunStatus,
) (page api.ListPage, err error) {
	limit := int(r.PageSize)
	if limit <= 0 {
		limit = api.DefaultListLimit
	}
	limit = min(limit, api.MaxListLimit-1)
	q := api.Query{
		Namespace: namespace(r.Namespace), Statuses: statuses,
		FromMs: r.StartFromMs, ToMs: r.StartToMs,
		CorrelationID: r.CorrelationId, Labels: r.Labels, Limit: limit + 1,
	}
	if r.Definition != "" {
		q.Definitions = []string{r.Definition}
	}
	if r.ParentRunId != "" {
		if q.Parent, err = tutti.ParseRunID(r.ParentRunId); err != nil {
			return page, err
		}
	}
	if err := q.PastCursor(r.Cursor); err != nil {
		return page, err
	}
	found, err := s.svc.Search(ctx, q)
	if err != nil {
		return page, err
	}
	for i, run := range found.Runs {
		if i == limit {
			page.Next = api.CursorAfter(page.Entries[limit-1])
			break
		}
		page.Entries = append(page.Entries, engine.IndexEntry{ID: run.ID, StartMs: run.StartMs})
	}
	return page, nil
}

// readPage reads the runs of a page. Those that were removed in the meantime, or are of
// another dialect than asked for, are left out.
func (s *runs) readPage(
	ctx context.Context, r *tuttipb.ListRunsRequest, page api.ListPage,
) (*tuttipb.ListRunsReply, error) {
	rep := &tuttipb.ListRunsReply{NextCursor: page.Next}
	size := 0
	for i, e := range page.Entries {
		run, err := s.svc.Run(ctx, namespace(r.Namespace), e.ID)
		switch {
		case err != nil && tutti.KindOf(err) == tutti.NotFound:
			continue
		case err != nil:
			return nil, err
		case r.Dialect != "" && run.Dialect != r.Dialect:
			continue
		}
		rep.Runs = append(rep.Runs, runMessage(run, r.WithPayloads))
		if !r.WithPayloads {
			continue
		}
		size += len(run.Input) + len(run.Output)
		if size > messageBytes && i+1 < len(page.Entries) {
			rep.NextCursor = api.CursorAfter(e)
			break
		}
	}
	return rep, nil
}

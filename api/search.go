package api

import (
	"context"
	"time"

	"github.com/tutti-run/tutti"
)

// Query selects runs by anything that is known of them. Zero fields select all.
type Query struct {
	Namespace     string
	IDs           []tutti.RunID
	Statuses      []tutti.RunStatus
	Definitions   []string
	Version       int
	FromMs, ToMs  int64 // start time: inclusive, exclusive
	EndFromMs     int64 // end time, inclusive; selects ended runs only
	EndToMs       int64 // end time, exclusive; selects ended runs only
	CorrelationID string
	Labels        map[string]string
	Parent        tutti.RunID
	TopLevel      bool // only runs without a parent
	// Text selects runs whose input, output or reason holds all of its words; a word that
	// ends with an asterisk stands for all that begin so.
	Text string
	// Where, when set, selects further. It must not keep or change the run.
	Where func(*tutti.Run) bool

	Sort   []SortKey // newest start first when empty
	Offset int       // results to leave out at the beginning
	Limit  int       // DefaultListLimit when zero, cut to MaxListLimit
}

// SortKey orders the results of a search.
type SortKey struct {
	Field SortField
	Desc  bool
}

// SortField is what results can be ordered by.
type SortField uint8

// The fields. Ordering by one of the first five needs no record of a run.
const (
	SortStart SortField = iota
	SortEnd
	SortDefinition
	SortStatus
	SortID
	SortUpdate
	SortCorrelation
	SortVersion
	SortPriority

	sortInIndex = SortID
)

// SearchResult is what a search found.
type SearchResult struct {
	Runs []*tutti.Run // with payloads
	// Total is how many runs the query selects, whatever Offset and Limit are.
	Total int
	// Partial says that the search ended at its bound (MaxLooked or MaxTotal), so that
	// Total is too low and, on other pages, the oldest results may be missing. Narrow the
	// query.
	Partial bool
	// Lag is by how much the index of free text was behind; 0 when it was not asked.
	Lag time.Duration
}

// TaskQuery selects task attempts.
type TaskQuery struct {
	// Runs selects the runs whose tasks are looked at; its Sort, Offset and Limit do not
	// count.
	Runs  Query
	Where func(*tutti.Run, *tutti.Task) bool
	// Text selects attempts whose input, output or reason holds all of its words.
	Text   string
	Offset int
	Limit  int // DefaultListLimit when zero, cut to MaxListLimit
}

// FoundTask is a result of a task search.
type FoundTask struct {
	Run  *tutti.Run
	Task *tutti.Task
}

// TaskSearchResult is what a task search found, newest run first.
type TaskSearchResult struct {
	Tasks   []FoundTask
	Total   int
	Partial bool // as in SearchResult
}

// Search returns the runs that a query selects.
func (s *Service) Search(ctx context.Context, q Query) (*SearchResult, error) {
	if err := s.authorize(ctx, ReadRuns, q.Namespace); err != nil {
		return nil, err
	}
	return s.search(ctx, q)
}

// SearchTasks returns the task attempts that a query selects.
func (s *Service) SearchTasks(ctx context.Context, q TaskQuery) (*TaskSearchResult, error) {
	if err := s.authorize(ctx, ReadRuns, q.Runs.Namespace); err != nil {
		return nil, err
	}
	return s.searchTasks(ctx, q)
}

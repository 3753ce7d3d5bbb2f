package api

import (
	"sync"
	"time"

	"github.com/tutti-run/tutti/engine"
)

// AuditStats are figures of the auditor since the server started.
type AuditStats struct {
	Rounds    uint64 // complete walks over all open runs
	Runs      uint64 // runs looked at
	Problems  uint64 // breaches found
	Repairs   uint64 // repairs asked for
	LastRound time.Time
	LastTook  time.Duration
	Recent    []engine.Problem // the newest problems, 100 at most
}

type auditState struct {
	mu sync.Mutex
	AuditStats
}

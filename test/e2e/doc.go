// Package e2e tests the server as a process: killed under load, stopped, out of disk, fed
// with nonsense. The tests have the build tag e2e; `make e2e` runs them.
package e2e

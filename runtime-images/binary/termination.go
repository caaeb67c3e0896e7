package main

import (
	"context"
	"os"
	"time"
)

// When the process ends. On one host SIGTERM comes after the platform has drained: it is a drain itself. In a cluster
// it comes first, to a pod that gateways still hold leases of: there the instance serves on, and its program with it,
// until it is told to drain, or nobody has used it for a while.
func (s *Shim) terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signals++
	specialising := s.state == generic && s.code != noCode
	servesOn := s.overTCP && (specialising || s.state == loading || s.state == ready)
	if s.signals > 1 || !servesOn {
		s.refuseAll()
		return
	}
	time.AfterFunc(refuseAfterSigterm, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.refuseAll()
	})
	s.look()
}

// With the lock held.
func (s *Shim) refuseAll() {
	s.state = draining
	s.look()
}

// After SIGTERM: called then, at a drain, and whenever a request is over. With the lock held.
func (s *Shim) look() {
	if s.signals == 0 || len(s.inFlight) > 0 || s.ending {
		return
	}
	if s.state == draining || s.state == failed {
		s.ending = true
		go s.end()
		return
	}
	s.idleSince = time.Now()
	time.AfterFunc(idleAfterSigterm, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.state == loading || s.code == receivingCode {
			s.look()
		} else if len(s.inFlight) == 0 && time.Since(s.idleSince) >= idleAfterSigterm {
			s.refuseAll()
		}
	})
}

// Nothing is in flight any more: the program is asked to end, and we end with it. The platform's
// deadline is its own: it kills.
func (s *Shim) end() {
	// The last answer is with the server still: it is written when its handler has returned.
	deadline, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	_ = s.server.Shutdown(deadline) // late: the client does not read, and the platform is about to kill
	s.mu.Lock()
	child := s.child
	s.mu.Unlock()
	if child != nil {
		child.terminate()
		<-child.done
		child.drainOutput()
	}
	s.logs.close()
	os.Exit(0)
}

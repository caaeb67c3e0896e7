package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"time"
)

type initRequest struct {
	Nonce          string             `json:"nonce"`
	Revision       *string            `json:"revision"`
	Namespace      *string            `json:"namespace"`
	Name           *string            `json:"name"`
	Number         *float64           `json:"number"`
	Code           *string            `json:"code"`
	Entry          *string            `json:"entry"`
	Env            *map[string]string `json:"env"`
	Slots          *float64           `json:"slots"`
	TimeoutMs      *float64           `json:"timeoutMs"`
	MemoryMib      *float64           `json:"memoryMib"`
	MemoryClassMib *float64           `json:"memoryClassMib"`
}

// Whether nothing is missing. Types are the decoder's to judge.
func (r *initRequest) valid() bool {
	if r.Revision == nil || r.Namespace == nil || r.Name == nil || r.Number == nil || r.Code == nil || r.Entry == nil || r.Env == nil {
		return false
	}
	if r.TimeoutMs == nil || r.MemoryMib == nil || r.MemoryClassMib == nil {
		return false
	}
	for _, part := range strings.Split(*r.Entry, "/") {
		if part == ".." {
			return false
		}
	}
	return r.Slots == nil || (*r.Slots >= 1 && *r.Slots <= 1_000 && *r.Slots == math.Trunc(*r.Slots))
}

type functionError struct {
	Name    string `json:"name"`
	Message string `json:"message"`
}

func (s *Shim) control(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.RequestURI {
	case "GET /.fn/health":
		s.mu.Lock()
		health := s.health()
		s.mu.Unlock()
		sendJSON(w, http.StatusOK, health)
	case "POST /.fn/init":
		s.initialise(w, r)
	case "POST /.fn/drain":
		s.drain(w, r)
	case "POST /.fn/code":
		if s.codeFolder == "" {
			notFound(w)
			return
		}
		s.receiveCode(w, r)
	default:
		notFound(w)
	}
}

func notFound(w http.ResponseWriter) {
	detail := "The shim has health, init and drain, and code where it comes over the network."
	problem(w, http.StatusNotFound, "not-found", "Not found", detail, "")
}

// With the lock held.
func (s *Shim) health() map[string]any {
	status := s.state
	if status != generic && status != ready {
		status = draining
	}
	var revision any
	if s.info != nil {
		revision = *s.info.Revision
	}
	return map[string]any{"status": status, "instance": s.instance, "revision": revision, "inFlight": len(s.inFlight), "waitUntil": 0}
}

func (s *Shim) initialise(w http.ResponseWriter, r *http.Request) {
	forbid := func() {
		problem(w, http.StatusForbidden, "forbidden", "Not allowed", "This instance cannot be initialised, or not by you.", "")
	}
	if !s.takesInit() {
		forbid()
		return
	}
	body, ok := readBody(w, r, maxInitBodyBytes)
	if !ok {
		return
	}
	// The nonce first, and by itself: who does not have it learns nothing about the rest.
	var said struct {
		Nonce any `json:"nonce"`
	}
	if !json.Valid(body) {
		problem(w, http.StatusBadRequest, "bad-request", "Bad request", "the body is not JSON", "")
		return
	}
	_ = json.Unmarshal(body, &said) // of another type than an object: then the nonce is missing, too
	nonce, _ := said.Nonce.(string)
	if !s.isNonce(nonce) {
		forbid()
		return
	}
	var request initRequest
	if err := json.Unmarshal(body, &request); err != nil || !request.valid() {
		problem(w, http.StatusUnprocessableEntity, "invalid", "Invalid input", "init lacks a field, or one is of the wrong type.", "")
		return
	}
	if !s.begin(&request) {
		forbid()
		return
	}
	started := time.Now()
	slots, failure := s.load(&request)
	if failure != nil {
		failure.Message = cut(failure.Message, maxErrorBytes)
		sendJSON(w, http.StatusUnprocessableEntity, map[string]any{"error": failure})
		return
	}
	sendJSON(w, http.StatusOK, map[string]any{"form": "port", "slots": slots, "loadMs": milliseconds(time.Since(started))})
}

func (s *Shim) takesInit() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == generic && s.code != receivingCode
}

// What a nonce begins with that is known by its SHA-256 alone, in hex.
const hashedNonce = "sha256:"

// In time that does not depend on where they differ.
func (s *Shim) isNonce(given string) bool {
	if strings.HasPrefix(s.nonce, hashedNonce) {
		hash := sha256.Sum256([]byte(given))
		given = hashedNonce + hex.EncodeToString(hash[:])
	}
	return s.nonce != "" && subtle.ConstantTimeCompare([]byte(given), []byte(s.nonce)) == 1
}

// False where another init was first, or code.
func (s *Shim) begin(request *initRequest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != generic || s.code == receivingCode {
		return false
	}
	s.state = loading
	s.info = request
	return true
}

// Starts the program and waits until it listens.
func (s *Shim) load(request *initRequest) (int, *functionError) {
	child, failure := s.start(request)
	if failure == nil {
		failure = child.untilListening()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if failure != nil {
		s.state = failed
		if child != nil {
			child.kill()
		}
		return 0, failure
	}
	s.slots = defaultSlots
	if request.Slots != nil {
		s.slots = int(*request.Slots)
	}
	s.proxy = newProxy(child)
	// A drain, or SIGTERM, may have come while it loaded.
	if s.state == loading {
		s.state = ready
	}
	return s.slots, nil
}

func (s *Shim) drain(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r, maxDrainBodyBytes)
	if !ok {
		return
	}
	var request map[string]any
	if err := json.Unmarshal(body, &request); err != nil || request == nil {
		problem(w, http.StatusUnprocessableEntity, "invalid", "Invalid input", `drain takes {"deadlineMs": number}.`, "")
		return
	}
	s.mu.Lock()
	s.state = draining
	health := s.health()
	s.mu.Unlock()
	sendJSON(w, http.StatusOK, health)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
}

// Answers 413 itself.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body, true
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		// What still comes is read and thrown away: were the connection closed, the answer could be lost.
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 4*limit))
		problem(w, http.StatusRequestEntityTooLarge, "body-too-large", "Body too large", "the body is too large", "")
	}
	return nil, false
}

func sendJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // values of our own: they can be written
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away needs no answer
}

// RFC 9457, by the platform's registry of errors.
func problem(w http.ResponseWriter, status int, code, title, detail, id string) {
	value := map[string]any{"type": "urn:fn:error:" + code, "title": title, "status": status, "detail": detail, "code": code}
	if id != "" {
		value["instance"] = id
	}
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // as above
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // as above
}

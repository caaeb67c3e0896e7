package main

import "time"

// Every limit of the shim, with its unit and why it is what it is.
const (
	// Headers of a request, bytes: the gateway takes 16 KiB from clients and adds its own.
	maxHeaderBytes = 64 * 1024
	// Longest body of POST init, bytes: the environment has at most 128 KiB, the rest is small.
	maxInitBodyBytes = 4 * 1024 * 1024
	// Longest body of POST drain, bytes.
	maxDrainBodyBytes = 4_096
	// Longest line that lists the files of POST code, bytes, how many it may list, and the longest path, characters.
	maxCodeIndexBytes, maxCodeFiles, maxCodePath = 4 * 1024 * 1024, 20_000, 512
	// How many folders they may be in: a path of 512 characters could name 256.
	maxCodeFolders = 20_000
	// All files together, bytes.
	maxCodeBytes = 512 * 1024 * 1024
	// What is read at once of them, bytes.
	codeBufferBytes = 64 * 1024
	// After SIGTERM over TCP: nobody has used the instance for so long, so no gateway holds it any more.
	idleAfterSigterm = 5 * time.Second
	// After SIGTERM over TCP: whoever still sends requests was not told by the platform, and will not be.
	refuseAfterSigterm = 15 * time.Second
	// How long the program may take until it listens.
	loadTimeout = 10 * time.Second
	// Pause between looks whether it listens: short at first, since most are quick.
	firstLook, longestLook = time.Millisecond, 50 * time.Millisecond
	// How long a look may take.
	lookTimeout = time.Second
	// Slots where the deployment does not say.
	defaultSlots = 50
	// Port that the program is told, where it is free.
	usualPort = 8080

	// An idle connection to the program is kept so long: shorter than servers do, so that it is we who close it.
	idleTimeout = 2 * time.Second
	// The head of a response waits so long for the first bytes of its body, to go out as one.
	headDelay = 2 * time.Millisecond
	// A connection to the program broke: its end is waited for so long, since it may be the reason.
	deathDelay = 300 * time.Millisecond

	// How long the last answer may take to be written before the process ends.
	flushTime = 2 * time.Second
	// A program that was killed holds up the end of the instance so long.
	oomDelay = 100 * time.Millisecond

	// Longest message of a log line, bytes.
	maxLogLineBytes = 16_384
	// Of it, room for the note that a line was cut, bytes.
	maxNoteBytes = 64
	// What an instance may log for long, bytes per second, and at once.
	logRateBytes  = 1024 * 1024
	logBurstBytes = 4 * 1024 * 1024
	// Lines that wait because nobody reads the pipe, bytes; what is more is dropped and counted.
	maxLogBacklogBytes = 4 * 1024 * 1024
	// Once lines are dropped, so long all are; then a note says how many.
	logDropTime = 200 * time.Millisecond
	// How long the last lines may hold up the end of the process.
	logFlushTime = 200 * time.Millisecond
	// Lines of stderr that are shown where the program ends while it starts, and their bytes.
	tailLines, maxTailBytes = 20, 4_096
	// Bounds of what is told about an error, bytes.
	maxErrorBytes = 8_192
)

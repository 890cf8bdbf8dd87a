// Package interop hands directories to Apache RocketMQ and takes them back. The
// log, the queues and the index are RocketMQ's own files, which both programs
// read as they are; Export adds what RocketMQ keeps beside them, and Import takes
// it over. docs/interop.md tells what carries over and what does not.
package interop

// Package publish holds the connectors that send messages for a task: Event performs
// Conductor's EVENT task over an eventbus, Kafka its KAFKA_PUBLISH task.
//
// It may import connector and its subpackages, value, the root package, the standard
// library and the Kafka client. Its invariant: a task completes only after the broker has
// the message, and the message carries a key that is the same for all attempts.
package publish

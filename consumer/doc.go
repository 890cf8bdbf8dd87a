// Package consumer receives messages for a group: pushed to handlers, pulled, or
// leased.
package consumer

// Package rocketmq proves that EmberMQ and Apache RocketMQ read each other's
// directories. Its tests run RocketMQ's own store (folder oracle) beside ours
// and compare what both say.
package rocketmq

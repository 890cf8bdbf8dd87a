package interop

import (
	"encoding/json"
	"strconv"

	"github.com/embermq/embermq/internal/fs"
	"github.com/embermq/embermq/store"
)

type javaGroup struct {
	name                  string
	retryMax, retryQueues int
	enabled, broadcast    bool
}

type object map[string]any

// writeConfig writes the JSON files of RocketMQ's config folder. RocketMQ writes
// numbers as keys without quotes and reads them with or without.
func (x *exporter) writeConfig(to fs.FS) error {
	version := object{"counter": 1, "stateVersion": 0, "timestamp": x.now.UnixMilli()}
	topics := make(object)
	for _, t := range x.topics {
		attributes := make(object)
		if name, ok := messageTypes[t.Kind]; ok {
			attributes["message.type"] = name
		}
		topics[t.Name] = object{"attributes": attributes, "order": false, "perm": int(t.Permission), "readQueueNums": t.ReadQueues,
			"topicFilterType": "SINGLE_TAG", "topicName": t.Name, "topicSysFlag": 0, "writeQueueNums": t.WriteQueues}
	}
	groups := make(object)
	for _, g := range x.groups {
		groups[g.name] = object{"attributes": object{}, "brokerId": 0, "consumeBroadcastEnable": true, "consumeEnable": g.enabled,
			"consumeFromMinEnable": true, "consumeMessageOrderly": false, "consumeTimeoutMinute": 15, "groupName": g.name,
			"groupRetryPolicy": object{"type": "CUSTOMIZED"}, "groupSysFlag": 0, "notifyConsumerIdsChangedEnable": true,
			"retryMaxTimes": max(g.retryMax, 0), "retryQueueNums": max(g.retryQueues, 1), "whichBrokerWhenConsumeSlowly": 1}
	}
	offsets := make(map[string]map[string]int64)
	for group, queues := range x.offsets {
		for q, offset := range queues {
			key := q.Topic + "@" + group
			if offsets[key] == nil {
				offsets[key] = make(map[string]int64)
			}
			offsets[key][strconv.Itoa(int(q.ID))] = offset
		}
	}
	levels := make(map[string]int64)
	for level, offset := range x.levels {
		levels[strconv.Itoa(level)] = offset
	}
	if err := to.MkdirAll(configFolder); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		v    object
	}{
		{"topics.json", object{"dataVersion": version, "topicConfigTable": topics}},
		{"subscriptionGroup.json", object{"dataVersion": version, "forbiddenTable": object{}, "subscriptionGroupTable": groups}},
		{"consumerOffset.json", object{"dataVersion": version, "offsetTable": offsets}},
		{"delayOffset.json", object{"dataVersion": version, "offsetTable": levels}},
	} {
		b, err := json.MarshalIndent(f.v, "", "\t")
		if err != nil {
			return err
		}
		if err := fs.WriteFile(to, configFolder+"/"+f.name, b); err != nil {
			return err
		}
	}
	return to.SyncDir(".")
}

const configFolder = "config"

var messageTypes = map[store.Kind]string{store.KindNormal: "NORMAL", store.KindOrdered: "FIFO",
	store.KindDelayed: "DELAY", store.KindTransactional: "TRANSACTION"}

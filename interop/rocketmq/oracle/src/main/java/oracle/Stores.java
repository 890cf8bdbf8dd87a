package oracle;

import com.alibaba.fastjson.JSONArray;
import com.alibaba.fastjson.JSONObject;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.common.BoundaryType;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBatch;
import org.apache.rocketmq.store.CommitLog;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.DispatchRequest;
import org.apache.rocketmq.store.GetMessageResult;
import org.apache.rocketmq.store.GetMessageStatus;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.QueryMessageResult;
import org.apache.rocketmq.store.RocksDBMessageStore;
import org.apache.rocketmq.store.SelectMappedBufferResult;
import org.apache.rocketmq.store.StoreType;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.queue.ConsumeQueueInterface;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

/** The open stores. One thread serves one store: its encoder's buffers are per thread. */
final class Stores {
    private static final Map<Integer, Stores> OPEN = new ConcurrentHashMap<>();
    private static final AtomicInteger LAST = new AtomicInteger();

    final ExecutorService executor;
    private final int number;
    private DefaultMessageStore store;
    private boolean started;

    private Stores(int number) {
        this.number = number;
        this.executor = Executors.newSingleThreadExecutor(r -> {
            Thread t = new Thread(r, "store-" + number);
            t.setDaemon(true);
            return t;
        });
    }

    static Stores create(JSONObject request) {
        int number = LAST.incrementAndGet();
        Stores s = new Stores(number);
        OPEN.put(number, s);
        request.put("store", number);
        return s;
    }

    static Stores get(JSONObject request) {
        Stores s = OPEN.get(request.getInteger("store"));
        if (s == null) {
            throw new IllegalArgumentException("no such store or operation");
        }
        return s;
    }

    void serve(String op, JSONObject request, JSONObject result) throws Exception {
        switch (op) {
            case "open":
                open(request, result);
                return;
            case "put":
                put(request, result);
                return;
            case "putBatch":
                putBatch(request, result);
                return;
            case "read":
                read(request, result);
                return;
            case "query":
                query(request, result);
                return;
            case "look": {
                MessageExt m = store.lookMessageByOffset(request.getLongValue("position"));
                result.put("records", m == null ? new JSONArray() : Json.array(List.of(Json.record(m))));
                return;
            }
            case "times":
                times(request, result);
                return;
            case "queues":
                queues(result);
                return;
            case "verify":
                verify(result);
                return;
            case "check":
                check(request, result);
                return;
            case "caughtUp":
                caughtUp();
                return;
            case "close":
                close();
                return;
            default:
                throw new IllegalArgumentException("no such operation");
        }
    }

    private void open(JSONObject request, JSONObject result) throws Exception {
        MessageStoreConfig c = new MessageStoreConfig();
        c.setStorePathRootDir(request.getString("dir"));
        c.setMappedFileSizeCommitLog(request.getIntValue("segment"));
        c.setMappedFileSizeConsumeQueue(request.getIntValue("queueFile"));
        c.setMaxHashSlotNum(request.getIntValue("slots"));
        c.setMaxIndexNum(request.getIntValue("entries"));
        c.setMaxMessageSize(request.getIntValue("maxBody"));
        c.setEnabledAppendPropCRC(request.getBooleanValue("appendCRC"));
        c.setForceVerifyPropCRC(request.getBooleanValue("forceCRC"));
        c.setFlushDiskType(request.getBooleanValue("sync") ? "SYNC_FLUSH" : "ASYNC_FLUSH");
        if (request.getBooleanValue("lmq")) {
            c.setEnableLmq(true);
            c.setEnableMultiDispatch(true);
        }
        c.setHaListenPort(0);
        c.setEnableCompaction(false);
        c.setTimerWheelEnable(false);
        c.setCleanFileForciblyEnable(false);
        c.setDiskMaxUsedSpaceRatio(99);
        c.setDiskSpaceWarningLevelRatio(90);
        BrokerConfig b = new BrokerConfig();
        b.setLongPollingEnable(false);
        ConcurrentMap<String, TopicConfig> topics = new ConcurrentHashMap<>();
        String[] batchTopics = request.getObject("batchTopics", String[].class);
        for (String name : batchTopics == null ? new String[0] : batchTopics) {
            TopicConfig t = new TopicConfig(name, 4, 4);
            t.getAttributes().put("queue.type", "BatchCQ");
            topics.put(name, t);
        }
        synchronized (Stores.class) { // constructors share a static TreeMap and destroy it when they run side by side
            BrokerStatsManager stats = new BrokerStatsManager("oracle", false);
            if (request.getBooleanValue("rocksDB")) {
                c.setStoreType(StoreType.DEFAULT_ROCKSDB.getStoreType());
                store = new RocksDBMessageStore(c, stats, null, b, topics);
            } else {
                store = new DefaultMessageStore(c, stats, null, b, topics);
            }
        }
        boolean loaded = store.load();
        result.put("store", number);
        result.put("loaded", loaded);
        if (loaded) {
            store.start();
            started = true;
            caughtUp();
        }
        result.put("minPosition", store.getMinPhyOffset());
        result.put("maxPosition", store.getMaxPhyOffset());
    }

    private void caughtUp() throws InterruptedException {
        while (store.dispatchBehindBytes() > 0) {
            Thread.sleep(1);
        }
    }

    private void put(JSONObject request, JSONObject result) throws Exception {
        JSONArray out = new JSONArray();
        JSONArray in = request.getJSONArray("messages");
        for (int i = 0; i < in.size(); i++) {
            out.add(receipt(store.putMessage(Json.message(in.getJSONObject(i)))));
        }
        caughtUp();
        result.put("receipts", out);
    }

    private void putBatch(JSONObject request, JSONObject result) throws Exception {
        JSONArray in = request.getJSONArray("messages");
        List<Message> messages = new ArrayList<>();
        for (int i = 0; i < in.size(); i++) {
            JSONObject o = in.getJSONObject(i);
            Message m = new Message(o.getString("topic"), Json.body(o));
            m.setFlag(o.getIntValue("flag"));
            MessageAccessor.setProperties(m, Json.properties(o));
            messages.add(m);
        }
        MessageExtBatch batch = new MessageExtBatch();
        Json.fill(batch, in.getJSONObject(0));
        MessageAccessor.setProperties(batch, Json.properties(request));
        batch.setPropertiesString(MessageDecoder.messageProperties2String(batch.getProperties()));
        batch.setBody(MessageDecoder.encodeMessages(messages));
        batch.setInnerBatch(request.getBooleanValue("inner"));
        result.put("receipts", Json.array(List.of(receipt(store.putMessages(batch)))));
        caughtUp();
    }

    private static JSONObject receipt(PutMessageResult r) {
        JSONObject o = new JSONObject(true);
        o.put("status", r.getPutMessageStatus().name());
        if (r.getAppendMessageResult() != null) {
            o.put("append", r.getAppendMessageResult().getStatus().name());
            o.put("position", r.getAppendMessageResult().getWroteOffset());
            o.put("offset", r.getAppendMessageResult().getLogicsOffset());
            o.put("size", r.getAppendMessageResult().getWroteBytes());
            o.put("storedAt", r.getAppendMessageResult().getStoreTimestamp());
            o.put("count", r.getAppendMessageResult().getMsgNum());
            o.put("msgId", r.getAppendMessageResult().getMsgId());
        }
        return o;
    }

    /** Reads every message of a queue from an offset on, as many calls as it takes. */
    private void read(JSONObject request, JSONObject result) {
        JSONArray out = new JSONArray();
        long next = request.getLongValue("from");
        boolean raw = request.getBooleanValue("raw");
        while (true) {
            GetMessageResult r = store.getMessage("oracle", request.getString("topic"), request.getIntValue("queue"),
                next, 32, null);
            try {
                for (ByteBuffer b : r.getMessageBufferList()) {
                    byte[] bytes = null;
                    if (raw) {
                        bytes = new byte[b.remaining()];
                        b.duplicate().get(bytes);
                    }
                    MessageExt m = Json.decode(b);
                    if (m == null) {
                        throw new IllegalStateException("a record near offset " + next + " does not decode");
                    }
                    JSONObject o = Json.record(m);
                    if (raw) { // which has the body: a checksum says that it is the same
                        o.put("raw", bytes);
                        o.remove("body");
                        o.put("computedCRC", m.getBody() == null ? 0 : UtilAll.crc32(m.getBody()));
                    }
                    out.add(o);
                }
                result.put("status", r.getStatus().name());
                if (r.getStatus() != GetMessageStatus.FOUND && r.getStatus() != GetMessageStatus.MESSAGE_WAS_REMOVING
                    && r.getStatus() != GetMessageStatus.OFFSET_FOUND_NULL || r.getNextBeginOffset() <= next) {
                    break;
                }
                next = r.getNextBeginOffset();
            } finally {
                r.release();
            }
        }
        result.put("records", out);
        result.put("next", next);
    }

    private void query(JSONObject request, JSONObject result) {
        QueryMessageResult r = store.queryMessage(request.getString("topic"), request.getString("key"),
            request.getIntValue("max"), request.getLongValue("begin"), request.getLongValue("end"));
        JSONArray out = new JSONArray();
        for (ByteBuffer b : r.getMessageBufferList()) {
            out.add(Json.record(Json.decode(b)));
        }
        r.release();
        result.put("records", out);
    }

    /** The offsets of many times at once, lower and upper bound. */
    private void times(JSONObject request, JSONObject result) {
        List<Long> lower = new ArrayList<>();
        List<Long> upper = new ArrayList<>();
        String topic = request.getString("topic");
        int queue = request.getIntValue("queue");
        for (long t : request.getObject("times", long[].class)) {
            lower.add(store.getOffsetInQueueByTime(topic, queue, t, BoundaryType.LOWER));
            upper.add(store.getOffsetInQueueByTime(topic, queue, t, BoundaryType.UPPER));
        }
        result.put("lower", lower);
        result.put("upper", upper);
    }

    private void queues(JSONObject result) throws Exception {
        JSONArray out = new JSONArray();
        for (String topic : new TreeMap<>(store.getConsumeQueueTable()).keySet()) {
            Map<Integer, ConsumeQueueInterface> queues = new TreeMap<>(store.getConsumeQueueTable().get(topic));
            for (Map.Entry<Integer, ConsumeQueueInterface> e : queues.entrySet()) {
                JSONObject o = new JSONObject(true);
                o.put("topic", topic);
                o.put("queue", e.getKey());
                o.put("start", store.getMinOffsetInQueue(topic, e.getKey()));
                o.put("end", store.getMaxOffsetInQueue(topic, e.getKey()));
                out.add(o);
            }
        }
        result.put("queues", out);
        result.put("minPosition", store.getMinPhyOffset());
        result.put("maxPosition", store.getMaxPhyOffset());
    }

    /** Walks the log as recovery does, with every check the configuration asks for. */
    private void verify(JSONObject result) {
        CommitLog log = store.getCommitLog();
        long at = store.getMinPhyOffset();
        long end = store.getMaxPhyOffset();
        long size = store.getMessageStoreConfig().getMappedFileSizeCommitLog();
        long records = 0;
        while (at < end) {
            SelectMappedBufferResult file = log.getData(at);
            if (file == null) {
                result.put("bad", at);
                result.put("reason", "no data");
                break;
            }
            try {
                ByteBuffer b = file.getByteBuffer();
                long fileEnd = Math.min(end, at - at % size + size);
                while (at < fileEnd) {
                    DispatchRequest r = log.checkMessageAndReturnSize(b, true, false, true);
                    if (!r.isSuccess()) {
                        result.put("bad", at);
                        result.put("reason", "size " + r.getMsgSize());
                        result.put("records", records);
                        result.put("end", at);
                        return;
                    }
                    if (r.getMsgSize() == 0) {
                        at = at - at % size + size;
                        break;
                    }
                    at += r.getMsgSize();
                    records++;
                }
            } finally {
                file.release();
            }
        }
        result.put("records", records);
        result.put("end", at);
    }

    /** checkMessageAndReturnSize of single records: the size, or a number below 1 for one that is refused. */
    private void check(JSONObject request, JSONObject result) {
        JSONArray in = request.getJSONArray("records");
        List<Integer> sizes = new ArrayList<>();
        for (int i = 0; i < in.size(); i++) {
            DispatchRequest r = store.getCommitLog().checkMessageAndReturnSize(
                ByteBuffer.wrap(in.getObject(i, byte[].class)), true, false, true);
            sizes.add(r.isSuccess() ? r.getMsgSize() : -1);
        }
        result.put("sizes", sizes);
    }

    /** Shuts the store down. The interrupt ends only the 3 s that shutdown() sleeps before it begins. */
    private void close() {
        OPEN.remove(number);
        if (started) {
            Thread.currentThread().interrupt();
            store.shutdown();
        }
        executor.shutdown();
    }
}

package oracle;

import com.alibaba.fastjson.JSONArray;
import com.alibaba.fastjson.JSONObject;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMachineRoomNearby;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByConfig;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueByMachineRoom;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueConsistentHash;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.compression.CompressorFactory;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientIDSetter;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.common.message.MessageId;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;
import org.apache.rocketmq.filter.expression.BooleanExpression;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.parser.SelectorParser;
import org.apache.rocketmq.store.index.IndexFile;

/** Operations that need no store. */
final class Pure {
    private static IndexFile hasher;

    private Pure() {
    }

    static boolean serve(String op, JSONObject request, JSONObject result) throws Exception {
        switch (op) {
            case "hello":
                result.put("java", System.getProperty("java.version"));
                result.put("pid", ProcessHandle.current().pid());
                return true;
            case "tagHashes": {
                JSONArray out = new JSONArray();
                for (Object s : request.getJSONArray("values")) {
                    out.add(MessageExtBrokerInner.tagsString2tagsCode((String) s));
                }
                result.put("values", out);
                return true;
            }
            case "indexHashes": { // of "topic#key" strings
                JSONArray out = new JSONArray();
                for (Object s : request.getJSONArray("values")) {
                    out.add(hasher().indexKeyHashMethod((String) s));
                }
                result.put("values", out);
                return true;
            }
            case "uniqueIDs":
                uniqueIDs(request, result);
                return true;
            case "newUniqueIDs": {
                List<String> out = new ArrayList<>();
                for (int i = request.getIntValue("count"); i > 0; i--) {
                    out.add(MessageClientIDSetter.createUniqID());
                }
                result.put("values", out);
                return true;
            }
            case "offsetIDs":
                offsetIDs(request, result);
                return true;
            case "decode":
                decode(request, result);
                return true;
            case "decodeBatch": {
                JSONArray out = new JSONArray();
                for (Message m : MessageDecoder.decodeMessages(ByteBuffer.wrap(request.getBytes("bytes")))) {
                    JSONObject o = new JSONObject(true);
                    o.put("flag", m.getFlag());
                    o.put("body", m.getBody());
                    o.put("properties", new JSONObject(new TreeMap<>(m.getProperties())));
                    out.add(o);
                }
                result.put("records", out);
                return true;
            }
            case "allocate":
                result.put("queues", allocate(request));
                return true;
            case "sql":
                sql(request, result);
                return true;
            default:
                return false;
        }
    }

    private static synchronized IndexFile hasher() throws Exception {
        if (hasher == null) {
            Path folder = Files.createTempDirectory("oracle");
            Path file = folder.resolve("20000101000000000"); // the name has to be a number
            hasher = new IndexFile(file.toString(), 16, 16, 0, 0);
            Files.delete(file);
            Files.delete(folder);
        }
        return hasher;
    }

    private static void uniqueIDs(JSONObject request, JSONObject result) {
        JSONArray out = new JSONArray();
        for (Object v : request.getJSONArray("values")) {
            String id = (String) v;
            JSONObject o = new JSONObject(true);
            o.put("ip", MessageClientIDSetter.getIPStrFromID(id));
            o.put("pid", MessageClientIDSetter.getPidFromID(id));
            o.put("time", MessageClientIDSetter.getNearlyTimeFromID(id).getTime());
            out.add(o);
        }
        result.put("ids", out);
    }

    private static void offsetIDs(JSONObject request, JSONObject result) throws Exception {
        JSONArray out = new JSONArray();
        for (Object v : request.getJSONArray("values")) {
            MessageId id = MessageDecoder.decodeMessageId((String) v);
            JSONObject o = new JSONObject(true);
            o.put("host", Json.host(id.getAddress()));
            o.put("position", id.getOffset());
            out.add(o);
        }
        result.put("ids", out);
    }

    /** Decodes records; "inflated" is the body as a consumer gets it. */
    private static void decode(JSONObject request, JSONObject result) throws Exception {
        JSONArray out = new JSONArray();
        JSONArray in = request.getJSONArray("records");
        for (int i = 0; i < in.size(); i++) {
            byte[] raw = in.getObject(i, byte[].class);
            MessageExt m = Json.decode(ByteBuffer.wrap(raw));
            if (m == null) {
                out.add(null);
                continue;
            }
            JSONObject o = Json.record(m);
            if ((m.getSysFlag() & MessageSysFlag.COMPRESSED_FLAG) != 0) {
                o.put("inflated", CompressorFactory.getCompressor(MessageSysFlag.getCompressionType(m.getSysFlag()))
                    .decompress(m.getBody()));
            }
            o.put("computedCRC", UtilAll.crc32(m.getBody()));
            out.add(o);
        }
        result.put("records", out);
    }

    /** The queues that one consumer gets, as indexes into "queues". */
    private static List<Integer> allocate(JSONObject request) {
        List<MessageQueue> all = new ArrayList<>();
        JSONArray in = request.getJSONArray("queues");
        for (int i = 0; i < in.size(); i++) {
            JSONObject q = in.getJSONObject(i);
            all.add(new MessageQueue(q.getString("topic"), q.getString("broker"), q.getIntValue("queue")));
        }
        String[] ids = request.getObject("consumers", String[].class);
        List<Integer> out = new ArrayList<>();
        for (MessageQueue q : strategy(request, all).allocate(
            request.getString("group"), request.getString("consumer"), all, Arrays.asList(ids))) {
            out.add(all.indexOf(q));
        }
        return out;
    }

    private static AllocateMessageQueueStrategy strategy(JSONObject request, List<MessageQueue> all) {
        String[] rooms = request.getObject("rooms", String[].class);
        switch (request.getString("strategy")) {
            case "average":
                return new AllocateMessageQueueAveragely();
            case "circle":
                return new AllocateMessageQueueAveragelyByCircle();
            case "hash":
                return new AllocateMessageQueueConsistentHash(request.getIntValue("virtual"));
            case "config": {
                AllocateMessageQueueByConfig s = new AllocateMessageQueueByConfig();
                List<MessageQueue> fixed = new ArrayList<>();
                for (int i : request.getObject("fixed", int[].class)) {
                    fixed.add(all.get(i));
                }
                s.setMessageQueueList(fixed);
                return s;
            }
            case "room": {
                AllocateMessageQueueByMachineRoom s = new AllocateMessageQueueByMachineRoom();
                s.setConsumeridcs(new HashSet<>(Arrays.asList(rooms)));
                return s;
            }
            case "nearby":
                // The room of a broker or consumer is what stands before '@', as in "room1@x".
                return new AllocateMachineRoomNearby(new AllocateMessageQueueAveragely(),
                    new AllocateMachineRoomNearby.MachineRoomResolver() {
                        @Override
                        public String brokerDeployIn(MessageQueue q) {
                            return q.getBrokerName().split("@")[0];
                        }

                        @Override
                        public String consumerDeployIn(String id) {
                            return id.split("@")[0];
                        }
                    });
            default:
                throw new IllegalArgumentException("unknown strategy");
        }
    }

    /**
     * Evaluates every expression against every message. A row of the result is one expression: "parse: reason", or one
     * letter a message: T, F, N (no boolean) or E (an exception).
     */
    private static void sql(JSONObject request, JSONObject result) {
        List<Map<String, String>> messages = new ArrayList<>();
        JSONArray in = request.getJSONArray("messages");
        for (int i = 0; i < in.size(); i++) {
            messages.add(Json.properties(in.getJSONObject(i)));
        }
        List<String> rows = new ArrayList<>();
        for (Object text : request.getJSONArray("expressions")) {
            BooleanExpression e;
            try {
                e = SelectorParser.parse((String) text);
            } catch (Throwable t) {
                rows.add("parse: " + t.getMessage());
                continue;
            }
            StringBuilder row = new StringBuilder();
            for (Map<String, String> m : messages) {
                row.append(evaluate(e, m));
            }
            rows.add(row.toString());
        }
        result.put("rows", rows);
    }

    private static char evaluate(BooleanExpression e, Map<String, String> m) {
        try {
            Object v = e.evaluate(new EvaluationContext() {
                @Override
                public Object get(String name) {
                    return m.get(name);
                }

                @Override
                public Map<String, Object> keyValues() {
                    return new TreeMap<>(m);
                }
            });
            if (!(v instanceof Boolean)) {
                return 'N';
            }
            return (Boolean) v ? 'T' : 'F';
        } catch (Throwable t) {
            return 'E';
        }
    }
}

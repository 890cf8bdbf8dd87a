package oracle;

import com.alibaba.fastjson.JSONArray;
import com.alibaba.fastjson.JSONObject;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.ByteBuffer;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;

/** What stands in requests and replies, as RocketMQ's own types. */
final class Json {
    private Json() {
    }

    /** Decodes one record as a client does, the body's checksum included. The body stays as it is stored. */
    static MessageExt decode(ByteBuffer record) {
        return MessageDecoder.decode(record, true, false, false, false, true);
    }

    static JSONObject record(MessageExt m) {
        JSONObject o = new JSONObject(true);
        o.put("topic", m.getTopic());
        o.put("queue", m.getQueueId());
        o.put("offset", m.getQueueOffset());
        o.put("position", m.getCommitLogOffset());
        o.put("size", m.getStoreSize());
        o.put("flag", m.getFlag());
        o.put("sysFlag", m.getSysFlag());
        o.put("bornAt", m.getBornTimestamp());
        o.put("bornHost", host(m.getBornHost()));
        o.put("storedAt", m.getStoreTimestamp());
        o.put("storeHost", host(m.getStoreHost()));
        o.put("bodyCRC", m.getBodyCRC());
        o.put("reconsumeTimes", m.getReconsumeTimes());
        o.put("preparedOffset", m.getPreparedTransactionOffset());
        o.put("body", m.getBody() == null ? new byte[0] : m.getBody());
        o.put("properties", m.getProperties() == null ? new JSONObject() : new JSONObject(new LinkedHashMap<>(m.getProperties())));
        o.put("msgId", m.getMsgId());
        return o;
    }

    static MessageExtBrokerInner message(JSONObject o) throws Exception {
        MessageExtBrokerInner m = new MessageExtBrokerInner();
        fill(m, o);
        return m;
    }

    static void fill(MessageExtBrokerInner m, JSONObject o) throws Exception {
        m.setTopic(o.getString("topic"));
        m.setQueueId(o.getIntValue("queue"));
        m.setBody(body(o));
        m.setFlag(o.getIntValue("flag"));
        m.setSysFlag(o.getIntValue("sysFlag"));
        m.setBornTimestamp(o.getLongValue("bornAt"));
        m.setBornHost(address(o.getString("bornHost")));
        m.setStoreHost(address(o.getString("storeHost")));
        m.setReconsumeTimes(o.getIntValue("reconsumeTimes"));
        m.setPreparedTransactionOffset(o.getLongValue("preparedOffset"));
        Map<String, String> properties = properties(o);
        MessageAccessor.setProperties(m, properties);
        m.setPropertiesString(MessageDecoder.messageProperties2String(properties));
    }

    /** The body of a message to put: RocketMQ does not take a null. */
    static byte[] body(JSONObject o) {
        byte[] b = o.getBytes("body");
        return b == null ? new byte[0] : b;
    }

    static Map<String, String> properties(JSONObject o) {
        Map<String, String> out = new LinkedHashMap<>();
        JSONObject in = o.getJSONObject("properties");
        if (in != null) {
            for (String name : in.keySet()) {
                out.put(name, in.getString(name));
            }
        }
        return out;
    }

    static InetSocketAddress address(String s) throws Exception {
        if (s == null) {
            s = "127.0.0.1:10911";
        }
        int colon = s.lastIndexOf(':');
        String ip = s.substring(0, colon).replace("[", "").replace("]", "");
        return new InetSocketAddress(InetAddress.getByName(ip), Integer.parseInt(s.substring(colon + 1)));
    }

    static String host(SocketAddress a) {
        InetSocketAddress i = (InetSocketAddress) a;
        String ip = i.getAddress().getHostAddress();
        return (ip.indexOf(':') >= 0 ? "[" + ip + "]" : ip) + ":" + i.getPort();
    }

    static JSONArray array(Iterable<?> values) {
        JSONArray a = new JSONArray();
        for (Object v : values) {
            a.add(v);
        }
        return a;
    }
}

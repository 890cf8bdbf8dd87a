import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExtBatch;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.GetMessageResult;
import org.apache.rocketmq.store.MessageArrivingListener;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.stats.BrokerStatsManager;

/**
 * Apache RocketMQ's own store, in its default configuration, on the work of this program. Each run is a process: the
 * work is done once for up to two seconds to warm the compiler, then measured. A figure counts until the dispatch has caught
 * up, because before that nobody can read the messages. The last line of the output holds the figures.
 */
public final class Bench {
    private static final String TOPIC = "orders";
    private final DefaultMessageStore store;
    private final byte[] body;

    private Bench(String dir, boolean sync, int size, MessageArrivingListener listener) throws Exception {
        MessageStoreConfig c = new MessageStoreConfig();
        c.setStorePathRootDir(dir);
        c.setStorePathCommitLog(dir + "/commitlog");
        c.setFlushDiskType(sync ? "SYNC_FLUSH" : "ASYNC_FLUSH");
        c.setHaListenPort(0);
        c.setEnableCompaction(false);
        c.setTimerWheelEnable(false);
        c.setMaxTransferCountOnMessageInMemory(256); // as many a call as are asked for
        c.setMaxTransferBytesOnMessageInMemory(4 << 20);
        BrokerConfig b = new BrokerConfig();
        b.setLongPollingEnable(listener != null);
        store = new DefaultMessageStore(c, new BrokerStatsManager("bench", false), listener, b, new ConcurrentHashMap<>());
        if (!store.load()) {
            throw new IllegalStateException("the store does not load");
        }
        store.start();
        body = new byte[size];
    }

    private <M extends MessageExtBrokerInner> M fill(M m, String topic, int queue, byte[] body) {
        m.setTopic(topic);
        m.setQueueId(queue);
        m.setBody(body);
        m.setBornTimestamp(System.currentTimeMillis());
        m.setBornHost(new InetSocketAddress("127.0.0.1", 10911));
        m.setStoreHost(m.getBornHost());
        MessageAccessor.setProperties(m, new HashMap<>());
        m.setPropertiesString("");
        return m;
    }

    private void put(String topic, int queue, byte[] body) {
        check(store.putMessage(fill(new MessageExtBrokerInner(), topic, queue, body)));
    }

    private void putBatch(byte[] encoded) {
        check(store.putMessages(fill(new MessageExtBatch(), TOPIC, 0, encoded)));
    }

    private byte[] encode(int n) {
        Message[] ms = new Message[n];
        Arrays.setAll(ms, i -> new Message(TOPIC, body));
        return MessageDecoder.encodeMessages(new ArrayList<>(Arrays.asList(ms)));
    }

    private static void check(PutMessageResult r) {
        if (!r.isOk()) {
            throw new IllegalStateException(r.getPutMessageStatus().name());
        }
    }

    private void caughtUp() throws InterruptedException {
        while (store.dispatchBehindBytes() > 0) {
            Thread.sleep(1);
        }
    }

    /** Puts from so many threads, single ones or batches, into queues of ten topics or into one. */
    private double puts(long millis, int producers, int batch, int queues, long most) throws Exception {
        byte[] encoded = batch > 1 ? encode(batch) : null;
        AtomicLong done = new AtomicLong();
        long begun = System.nanoTime();
        long end = begun + millis * 1_000_000;
        List<Thread> threads = new ArrayList<>();
        for (int p = 0; p < producers; p++) {
            Thread t = new Thread(() -> {
                long n = 0;
                while (n * producers * batch < most && System.nanoTime() < end) {
                    if (batch > 1) {
                        putBatch(encoded);
                    } else if (queues > 1) {
                        int q = (int) (n % queues);
                        put("topic-" + q % 10, q / 10, body);
                    } else {
                        put(TOPIC, 0, body);
                    }
                    n++;
                }
                done.addAndGet(n * batch);
            });
            threads.add(t);
            t.start();
        }
        for (Thread t : threads) {
            t.join();
        }
        caughtUp();
        return done.get() / ((System.nanoTime() - begun) / 1e9);
    }

    private void put(int n) throws InterruptedException {
        byte[] encoded = encode(100);
        for (int i = 0; i < n; i += 100) {
            putBatch(encoded);
        }
        caughtUp();
    }

    /** Reads and decodes n messages. */
    private double drain(int n) {
        long begun = System.nanoTime();
        long offset = 0;
        while (offset < n) {
            GetMessageResult r = store.getMessage("billing", TOPIC, 0, offset, 256, null);
            for (ByteBuffer b : r.getMessageBufferList()) {
                if (MessageDecoder.decode(b) == null) {
                    throw new IllegalStateException("a record does not decode");
                }
            }
            offset = r.getNextBeginOffset();
            r.release();
        }
        return n / ((System.nanoTime() - begun) / 1e9);
    }

    /** From when a put was due to when a reader has it; the 50th, 99th and 99.9th percentile in microseconds. */
    private static double[] latency(String dir, int perSecond, long millis) throws Exception {
        Thread[] reader = new Thread[1];
        Bench b = new Bench(dir, false, 1024, (topic, queue, offset, tags, time, filter, properties) -> LockSupport.unpark(reader[0]));
        int n = (int) (perSecond * millis / 1000);
        long[] took = new long[n];
        reader[0] = new Thread(() -> {
            long offset = 0;
            while (offset < n) {
                GetMessageResult r = b.store.getMessage("billing", TOPIC, 0, offset, 256, null);
                if (r == null || r.getMessageCount() == 0) {
                    LockSupport.park();
                    continue;
                }
                for (ByteBuffer buffer : r.getMessageBufferList()) {
                    long due = ByteBuffer.wrap(MessageDecoder.decode(buffer).getBody()).getLong();
                    took[(int) offset++] = System.nanoTime() - due;
                }
                r.release();
            }
        });
        reader[0].start();
        long begun = System.nanoTime();
        for (int i = 0; i < n; i++) {
            long due = begun + i * (1_000_000_000L / perSecond);
            while (System.nanoTime() < due) {
                Thread.onSpinWait();
            }
            byte[] body = new byte[1024];
            ByteBuffer.wrap(body).putLong(due);
            b.put(TOPIC, 0, body);
        }
        while (reader[0].isAlive()) {
            LockSupport.unpark(reader[0]);
            reader[0].join(1);
        }
        Arrays.sort(took);
        return new double[] {took[n / 2] / 1e3, took[n * 99 / 100] / 1e3, took[(int) (n * 999L / 1000)] / 1e3};
    }

    public static void main(String[] args) throws Exception {
        String mode = args[0];
        String dir = args[1];
        long millis = Long.parseLong(args[2]);
        int size = Integer.parseInt(args[3]);
        int producers = Integer.parseInt(args[4]);
        int batch = Integer.parseInt(args[5]);
        int n = Integer.parseInt(args[6]); // messages, queues, or a rate
        boolean sync = Boolean.parseBoolean(args[7]);
        long most = Long.parseLong(args[8]);
        double[] figures;
        switch (mode) {
            case "put":
                // Warmed with one queue: making files for many takes Java many seconds.
                new Bench(dir + "/warm", sync, size, null).puts(Math.min(2000, 2 * millis), producers, batch, 1, Long.MAX_VALUE / 1_000_000);
                figures = new double[] {new Bench(dir + "/store", sync, size, null).puts(millis, producers, batch, n, most)};
                break;
            case "drain": {
                Bench b = new Bench(dir + "/store", sync, size, null);
                b.put(n);
                for (long end = System.nanoTime() + Math.min(2000, 2 * millis) * 1_000_000; System.nanoTime() < end;) {
                    b.drain(n);
                }
                figures = new double[] {b.drain(n)};
                break;
            }
            case "latency":
                latency(dir + "/warm", n, Math.min(2000, 2 * millis));
                figures = latency(dir + "/store", n, millis);
                break;
            case "fill":
                new Bench(dir + "/store", sync, size, null).put(n);
                figures = new double[] {n};
                break;
            case "open": {
                long begun = System.nanoTime();
                new Bench(dir + "/store", sync, size, null).caughtUp();
                figures = new double[] {(System.nanoTime() - begun) / 1e6};
                break;
            }
            default:
                throw new IllegalArgumentException(mode);
        }
        StringBuilder line = new StringBuilder();
        for (double f : figures) {
            line.append(line.length() > 0 ? " " : "").append(f);
        }
        System.out.println("figures: " + line);
        System.out.flush();
        Runtime.getRuntime().halt(0); // as kill -9 does; a stop would take three seconds
    }
}

import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.PrintStream;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.namesrv.NamesrvConfig;
import org.apache.rocketmq.namesrv.NamesrvController;
import org.apache.rocketmq.remoting.netty.NettyClientConfig;
import org.apache.rocketmq.remoting.netty.NettyServerConfig;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/**
 * A name server, a broker on a directory, a consumer and a transaction producer, all on 127.0.0.1. Arguments: the
 * broker's configuration file, two free ports, the consumer's group, the producer's group, and topics. Prints one line
 * for each event until standard input ends, then shuts everything down.
 */
public final class Broker {
    private static final PrintStream OUT = System.out;

    public static void main(String[] args) throws Exception {
        System.setOut(System.err);
        int namePort = Integer.parseInt(args[1]);
        int brokerPort = Integer.parseInt(args[2]);
        NettyServerConfig nameServer = new NettyServerConfig();
        nameServer.setBindAddress("127.0.0.1");
        nameServer.setListenPort(namePort);
        NamesrvController names = new NamesrvController(new NamesrvConfig(), nameServer);
        if (!names.initialize()) {
            throw new IllegalStateException("the name server does not start");
        }
        names.start();

        BrokerController broker = broker(args[0], namePort, brokerPort);
        say("broker");

        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(args[3]);
        consumer.setNamesrvAddr("127.0.0.1:" + namePort);
        consumer.setVipChannelEnabled(false);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        for (int i = 5; i < args.length; i++) {
            consumer.subscribe(args[i], "*");
        }
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            for (MessageExt m : messages) {
                say("got " + m.getTopic() + " " + m.getQueueId() + " " + m.getQueueOffset() + " "
                    + new String(m.getBody(), StandardCharsets.UTF_8));
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();

        TransactionMQProducer producer = new TransactionMQProducer(args[4]);
        producer.setNamesrvAddr("127.0.0.1:" + namePort);
        producer.setVipChannelEnabled(false);
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return LocalTransactionState.UNKNOW;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                String body = new String(m.getBody(), StandardCharsets.UTF_8);
                say("check " + body);
                return body.endsWith("no") ? LocalTransactionState.ROLLBACK_MESSAGE : LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        producer.start();
        // The broker knows a producer from its heartbeats, which it sends to brokers of topics that it has asked for.
        for (boolean routed = false; !routed;) {
            try {
                producer.fetchPublishMessageQueues(args[args.length - 1]);
                routed = true;
            } catch (Exception e) {
                Thread.sleep(200); // the broker registers with the name server every now and then
            }
        }
        producer.send(new Message(args[args.length - 1], "hello".getBytes(StandardCharsets.UTF_8)));
        producer.getDefaultMQProducerImpl().getMqClientFactory().sendHeartbeatToAllBrokerWithLock();
        say("clients");

        while (System.in.read() >= 0) {
        }
        consumer.shutdown();
        producer.shutdown();
        broker.shutdown();
        names.shutdown();
        say("down");
        Runtime.getRuntime().halt(0);
    }

    private static BrokerController broker(String file, int namePort, int port) throws Exception {
        Properties p = new Properties();
        try (InputStream in = new FileInputStream(file)) {
            p.load(in);
        }
        BrokerConfig config = new BrokerConfig();
        MessageStoreConfig store = new MessageStoreConfig();
        MixAll.properties2Object(p, config);
        MixAll.properties2Object(p, store);
        config.setNamesrvAddr("127.0.0.1:" + namePort);
        config.setBrokerIP1("127.0.0.1");
        config.setBrokerName("broker-a");
        config.setTransactionCheckInterval(6000);
        config.setTransactionOpBatchInterval(200); // else it asks again before it has written down the answer
        config.setTransactionTimeOut(2000);
        config.setAutoCreateTopicEnable(false);
        config.setRocketmqHome(System.getProperty("user.dir"));
        store.setDiskMaxUsedSpaceRatio(99);
        store.setCleanFileForciblyEnable(false);
        store.setHaListenPort(0);
        NettyServerConfig server = new NettyServerConfig();
        server.setBindAddress("127.0.0.1");
        server.setListenPort(port);
        BrokerController broker = new BrokerController(config, server, new NettyClientConfig(), store);
        if (!broker.initialize()) {
            throw new IllegalStateException("the broker does not take the directory");
        }
        broker.start();
        return broker;
    }

    private static synchronized void say(String line) {
        OUT.println(line);
        OUT.flush();
    }
}

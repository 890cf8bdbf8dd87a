package oracle;

import com.alibaba.fastjson.JSON;
import com.alibaba.fastjson.JSONObject;
import com.alibaba.fastjson.parser.Feature;
import com.alibaba.fastjson.serializer.SerializerFeature;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Serves many stores to one Go program: a JSON object a line on stdin, a reply a line on stdout.
 *
 * <p>A request has an "id", an "op" and the operation's fields. Requests for one store run in order, others side by
 * side. A reply is the id and a space, then the result as a JSON object, or "!" and a reason. Bytes are in base64.
 *
 * <p>The operation "halt" ends the process as kill -9 does, with all stores that are open: their directories then are
 * what a crash leaves. End of input halts too.
 */
public final class Oracle {
    private static final PrintStream REPLIES = System.out;

    private Oracle() {
    }

    public static void main(String[] args) throws Exception {
        System.setOut(System.err); // libraries that print must not disturb the protocol
        ExecutorService pure = Executors.newFixedThreadPool(2);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8), 1 << 16);
        for (String line; (line = in.readLine()) != null;) {
            JSONObject request = JSON.parseObject(line, Feature.OrderedField, Feature.DisableSpecialKeyDetect);
            Executor executor = pure;
            try {
                if (request.containsKey("store")) {
                    executor = Stores.get(request).executor;
                } else if (request.getString("op").equals("open")) {
                    executor = Stores.create(request).executor;
                }
            } catch (RuntimeException e) {
                reply(request, new JSONObject(), e);
                continue;
            }
            executor.execute(() -> serve(request));
        }
        Runtime.getRuntime().halt(0);
    }

    private static void serve(JSONObject request) {
        JSONObject result = new JSONObject(true);
        try {
            String op = request.getString("op");
            if (op.equals("halt")) {
                Runtime.getRuntime().halt(137);
            }
            if (!Pure.serve(op, request, result)) {
                Stores.get(request).serve(op, request, result);
            }
            reply(request, result, null);
        } catch (Throwable e) {
            reply(request, result, e);
        }
    }

    private static void reply(JSONObject request, JSONObject result, Throwable e) {
        byte[] line;
        if (e == null) {
            line = JSON.toJSONBytes(result, SerializerFeature.DisableCircularReferenceDetect);
        } else {
            line = ("!" + text(e)).getBytes(StandardCharsets.UTF_8);
        }
        byte[] id = (request.get("id") + " ").getBytes(StandardCharsets.UTF_8);
        synchronized (REPLIES) {
            REPLIES.write(id, 0, id.length);
            REPLIES.write(line, 0, line.length);
            REPLIES.write('\n');
            REPLIES.flush();
        }
    }

    /** An exception with its causes and where it was thrown, in one line. */
    private static String text(Throwable e) {
        Throwable cause = e;
        StringBuilder text = new StringBuilder(e.toString());
        while ((cause = cause.getCause()) != null) {
            text.append(": ").append(cause);
        }
        StackTraceElement[] stack = e.getStackTrace();
        for (int i = 0; i < stack.length && i < 3; i++) {
            text.append(i == 0 ? " at " : ", ").append(stack[i]);
        }
        return text.toString().replaceAll("\\R", " ");
    }
}

package run.tutti.sdk;

import com.netflix.conductor.client.exception.ConductorClientException;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.locks.LockSupport;

/**
 * What the scenarios share: how they are registered and reported, how they wait, and the HTTP
 * service that HTTP tasks call.
 */
final class Harness {
    private static final long DEADLINE_NANOS = 30_000_000_000L;
    private static final long INTERVAL_NANOS = 20_000_000L;

    /** One scenario; it fails by throwing. */
    interface Scenario {
        void run() throws Exception;
    }

    private final Map<String, Scenario> scenarios = new LinkedHashMap<>();

    /** Registers a scenario; they run in the order of registration. */
    void scenario(String name, Scenario run) {
        scenarios.put(name, run);
    }

    /** Runs the scenarios, one line each, and returns how many failed. */
    int runAll(List<String> only) {
        int failed = 0;
        int ran = 0;
        for (Map.Entry<String, Scenario> entry : scenarios.entrySet()) {
            if (!only.isEmpty() && !only.contains(entry.getKey())) {
                continue;
            }
            ran++;
            long began = System.nanoTime();
            String verdict = "ok  ";
            Throwable fault = null;
            try {
                entry.getValue().run();
            } catch (Throwable t) {
                failed++;
                verdict = "FAIL";
                fault = t;
            }
            double took = (System.nanoTime() - began) / 1e9;
            System.out.printf("%s java %s %.2fs%n", verdict, entry.getKey(), took);
            if (fault != null) {
                fault.printStackTrace(System.out);
            }
        }
        System.out.printf("%d passed, %d failed%n", ran - failed, failed);
        return failed;
    }

    /** Returns the first non-null result of probe that is not false, or fails. */
    static <T> T eventually(Callable<T> probe, String what) throws Exception {
        long until = System.nanoTime() + DEADLINE_NANOS;
        while (System.nanoTime() < until) {
            T got = probe.call();
            if (got != null && !Boolean.FALSE.equals(got)) {
                return got;
            }
            LockSupport.parkNanos(INTERVAL_NANOS);
        }
        throw new AssertionError("not within the deadline: " + what);
    }

    static void equal(Object got, Object want, String what) {
        if (!Objects.equals(got, want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    /** Asserts that the call is refused with the HTTP status, and returns the message. */
    static String refused(Scenario call, int status, String what) throws Exception {
        try {
            call.run();
        } catch (ConductorClientException e) {
            equal(e.getStatus(), status, what + " (" + e.getMessage() + ")");
            return String.valueOf(e.getMessage());
        }
        throw new AssertionError(what + ": not refused, want status " + status);
    }

    /** Starts the service that HTTP tasks call and returns its address. */
    static String httpService() throws IOException {
        HttpServer server =
                HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.setExecutor(Executors.newCachedThreadPool(r -> {
            Thread thread = new Thread(r);
            thread.setDaemon(true);
            return thread;
        }));
        server.createContext("/", exchange -> {
            byte[] body = exchange.getRequestBody().readAllBytes();
            String path = exchange.getRequestURI().toString();
            String tag = exchange.getRequestHeaders().getFirst("X-Tag");
            String answer = "{\"path\":\"" + path + "\",\"tag\":"
                    + (tag == null ? "null" : "\"" + tag + "\"") + ",\"body\":"
                    + (body.length == 0 ? "null" : new String(body, StandardCharsets.UTF_8)) + "}";
            byte[] raw = answer.getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().add("Content-Type", "application/json");
            exchange.sendResponseHeaders(path.startsWith("/broken") ? 503 : 200, raw.length);
            exchange.getResponseBody().write(raw);
            exchange.close();
        });
        server.start();
        return "http://127.0.0.1:" + server.getAddress().getPort();
    }

    private Harness() {}

    static Harness create() {
        return new Harness();
    }
}

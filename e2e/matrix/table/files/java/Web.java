import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

/** The JDK's own server. Nothing is said about its end, so SIGTERM ends the JVM at once. */
public class Web {
    public static void main(String[] args) throws Exception {
        String generation = System.getenv().getOrDefault("HOLDFAST_GENERATION", "0");
        byte[] body = ("generation=" + generation + "\n").getBytes();
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }
}

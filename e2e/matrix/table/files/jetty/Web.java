import java.io.IOException;
import javax.servlet.http.HttpServletRequest;
import javax.servlet.http.HttpServletResponse;
import org.eclipse.jetty.server.Request;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.eclipse.jetty.server.handler.AbstractHandler;
import org.eclipse.jetty.server.handler.StatisticsHandler;

/** Jetty, embedded as its documentation has it, with its graceful stop (StatisticsHandler, setStopTimeout). */
public class Web {
    public static void main(String[] args) throws Exception {
        String generation = System.getenv().getOrDefault("HOLDFAST_GENERATION", "0");
        Server server = new Server();
        ServerConnector connector = new ServerConnector(server);
        connector.setHost("127.0.0.1");
        connector.setPort(Integer.parseInt(args[0]));
        server.addConnector(connector);
        StatisticsHandler graceful = new StatisticsHandler();
        graceful.setHandler(new AbstractHandler() {
            @Override
            public void handle(String target, Request base, HttpServletRequest request, HttpServletResponse response)
                    throws IOException {
                base.setHandled(true);
                response.getWriter().println("generation=" + generation);
            }
        });
        server.setHandler(graceful);
        server.setStopTimeout(5000);
        server.setStopAtShutdown(true);
        server.start();
        server.join();
    }
}

// pgjdbc: statements that it prepares on the server after a few uses, batches, cursors by fetch size, COPY, savepoints, cancelled queries.

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import org.postgresql.PGConnection;

public class Postgres {
    static final String SCHEMA = System.getenv("PREFIX");

    static void same(Object got, Object wanted) {
        if (!got.equals(wanted)) throw new AssertionError("got " + got + ", wanted " + wanted);
    }

    static Connection connect(String... more) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", System.getenv("PGUSER"));
        String password = System.getenv("PGPASSWORD");
        properties.setProperty("password", password == null ? "none" : password);
        properties.setProperty("sslmode", "disable");
        properties.setProperty("currentSchema", SCHEMA);
        for (int i = 0; i < more.length; i += 2) properties.setProperty(more[i], more[i + 1]);
        String where = System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        return DriverManager.getConnection("jdbc:postgresql://" + where, properties);
    }

    static void values(Connection conn) throws SQLException {
        try (PreparedStatement plus = conn.prepareStatement("select ? + 1, ?::text, null::int")) {
            for (int i = 0; i < 30; i++) {
                plus.setInt(1, i);
                plus.setString(2, "häß😀");
                try (ResultSet rows = plus.executeQuery()) {
                    rows.next();
                    same(rows.getInt(1), i + 1);
                    same(rows.getString(2), "häß😀");
                    rows.getInt(3);
                    same(rows.wasNull(), true);
                }
            }
        }
        // Types that change: it prepares anew under another name.
        for (Object value : new Object[] {1, "text", 2L, 1.5, true, 3}) {
            try (PreparedStatement any = conn.prepareStatement("select ?")) {
                any.setObject(1, value);
                try (ResultSet rows = any.executeQuery()) {
                    rows.next();
                    same(rows.getString(1), value instanceof Boolean ? "t" : value.toString());
                }
            }
        }
        // More texts than its cache keeps: it closes the oldest.
        for (int round = 0; round < 6; round++) {
            for (int i = 0; i < 40; i++) {
                try (PreparedStatement text = conn.prepareStatement("select " + i + " + ?")) {
                    text.setInt(1, round);
                    try (ResultSet rows = text.executeQuery()) {
                        rows.next();
                        same(rows.getInt(1), i + round);
                    }
                }
            }
        }
    }

    static void transactions(Connection conn) throws Exception {
        try (Statement statement = conn.createStatement()) {
            statement.execute("create table t (i int primary key, v text)");
            conn.setAutoCommit(false);
            try (PreparedStatement insert = conn.prepareStatement("insert into t values (?, ?)")) {
                for (int i = 0; i < 2000; i++) {
                    insert.setInt(1, i);
                    insert.setString(2, "v" + i);
                    insert.addBatch();
                }
                same(insert.executeBatch().length, 2000);
            }
            var savepoint = conn.setSavepoint();
            try {
                statement.execute("insert into t values (1)");
                throw new AssertionError("a key twice");
            } catch (SQLException error) {
                same(error.getSQLState(), "23505");
            }
            conn.rollback(savepoint);
            statement.setFetchSize(100);
            try (ResultSet rows = statement.executeQuery("select i from t order by i")) {
                int count = 0;
                while (rows.next()) same(rows.getInt(1), count++);
                same(count, 2000);
            }
            conn.commit();
            conn.setAutoCommit(true);
            var copy = conn.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder lines = new StringBuilder();
            for (int i = 5000; i < 15000; i++) lines.append(i).append("\trow\n");
            same(copy.copyIn("copy t from stdin", new StringReader(lines.toString())), 10000L);
            StringWriter out = new StringWriter();
            same(copy.copyOut("copy t to stdout", out), 12000L);
            try {
                copy.copyIn("copy t from stdin", new StringReader("x\n"));
                throw new AssertionError("no error");
            } catch (SQLException error) {
                same(error.getSQLState(), "22P02");
            }
            // Its own name for a table that has changed: it prepares again where it may.
            try (PreparedStatement all = conn.prepareStatement("select * from t where i = 1")) {
                for (int i = 0; i < 8; i++) all.executeQuery().close();
                statement.execute("alter table t add w int default 7");
                try (ResultSet rows = all.executeQuery()) {
                    rows.next();
                    same(rows.getMetaData().getColumnCount(), 3);
                }
            }
        }
    }

    static void cancels(Connection conn) throws Exception {
        try (Statement statement = conn.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    statement.cancel();
                } catch (Exception error) {
                    throw new AssertionError(error);
                }
            });
            canceller.start();
            try {
                statement.execute("select pg_sleep(30)");
                throw new AssertionError("not cancelled");
            } catch (SQLException error) {
                same(error.getSQLState(), "57014");
            }
            canceller.join();
            statement.setQueryTimeout(1);
            try {
                statement.execute("select pg_sleep(30)");
                throw new AssertionError("no timeout");
            } catch (SQLException error) {
                same(error.getSQLState(), "57014");
            }
            statement.setQueryTimeout(0);
            statement.execute("select 1");
        }
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection first = connect(); Statement statement = first.createStatement()) {
            statement.execute("create schema " + SCHEMA);
        }
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection conn = connect("preferQueryMode", mode, "preparedStatementCacheQueries", "16", "autosave", "conservative")) {
                if (!mode.equals("simple")) values(conn);
                try (Statement statement = conn.createStatement()) {
                    statement.execute("drop table if exists t");
                }
                transactions(conn);
                cancels(conn);
            }
        }
        System.out.println("ok");
    }
}

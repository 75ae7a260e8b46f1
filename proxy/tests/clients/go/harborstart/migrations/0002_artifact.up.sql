CREATE TABLE artifact (id SERIAL PRIMARY KEY, name text NOT NULL UNIQUE, replica int, pushed timestamp, updated timestamp default CURRENT_TIMESTAMP);
CREATE TRIGGER artifact_updated BEFORE UPDATE ON artifact FOR EACH ROW EXECUTE PROCEDURE update_time();
SELECT pg_sleep(0.2);

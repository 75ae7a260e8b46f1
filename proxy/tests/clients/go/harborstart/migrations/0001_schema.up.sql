CREATE TABLE harbor_user (user_id SERIAL PRIMARY KEY NOT NULL, username varchar(255), UNIQUE (username));

INSERT INTO harbor_user (username) VALUES ('admin'), ('anonymous');

/* Several statements, one of them with a function of its own. */
CREATE FUNCTION update_time() RETURNS trigger AS $$
BEGIN
    NEW.updated = NOW();
    RETURN NEW;
END;
$$ LANGUAGE 'plpgsql';

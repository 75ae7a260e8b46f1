DO $$
DECLARE
    u RECORD;
BEGIN
    FOR u IN SELECT * FROM harbor_user LOOP
        UPDATE harbor_user SET username = lower(u.username) WHERE user_id = u.user_id;
    END LOOP;
END $$;
ALTER TABLE artifact ADD COLUMN size bigint DEFAULT 0;

-- The id of the first event of the message that was copied last. A power cut can lose the last messages that a broker
-- confirmed, and what is published then gets their offsets: the message at this place is another one.
alter table webhook_position add column last_event_id text;

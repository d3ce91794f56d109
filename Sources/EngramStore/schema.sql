CREATE TABLE meta (
  key TEXT NOT NULL PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE mailbox (
  id INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 5),
  owner BLOB NOT NULL,
  next_seq INTEGER NOT NULL CHECK (next_seq >= 1),
  UNIQUE (kind, owner)
) STRICT;

CREATE TABLE client (
  address TEXT NOT NULL PRIMARY KEY,
  identity BLOB NOT NULL CHECK (length(identity) = 32),
  list BLOB NOT NULL,
  list_version INTEGER NOT NULL,
  home INTEGER NOT NULL,
  disabled INTEGER NOT NULL CHECK (disabled IN (0, 1)),
  created_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX client_of_home ON client (home);

CREATE TABLE device (
  kid BLOB NOT NULL PRIMARY KEY CHECK (length(kid) = 16),
  address TEXT NOT NULL REFERENCES client (address),
  certificate BLOB NOT NULL,
  mailbox INTEGER REFERENCES mailbox (id)
) STRICT;

CREATE INDEX device_of_client ON device (address);

CREATE TABLE prekey (
  kid BLOB NOT NULL REFERENCES device (kid),
  kind INTEGER NOT NULL CHECK (kind IN (1, 2)),
  id BLOB NOT NULL CHECK (length(id) = 16),
  bytes BLOB NOT NULL,
  not_after_ms INTEGER NOT NULL,
  PRIMARY KEY (kid, kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE invite (
  digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
  name TEXT NOT NULL,
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE token_use (
  id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
  expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
  seq INTEGER PRIMARY KEY,
  dedupe BLOB NOT NULL UNIQUE CHECK (length(dedupe) = 32),
  envelope_id BLOB NOT NULL CHECK (length(envelope_id) = 32),
  sender TEXT NOT NULL,
  sender_kid BLOB NOT NULL CHECK (length(sender_kid) = 16),
  type INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  not_before_ms INTEGER NOT NULL,
  origin INTEGER NOT NULL,
  accepted_ms INTEGER NOT NULL,
  open INTEGER NOT NULL CHECK (open >= 0),
  check_sum BLOB NOT NULL CHECK (length(check_sum) = 16),
  info_sum BLOB NOT NULL CHECK (length(info_sum) = 16)
) STRICT;

CREATE INDEX message_open ON message (expires_ms) WHERE open > 0;

CREATE INDEX message_done ON message (expires_ms) WHERE open = 0;

CREATE TABLE body (
  message INTEGER PRIMARY KEY REFERENCES message (seq),
  bytes BLOB NOT NULL
) STRICT;

CREATE TABLE delivery (
  mailbox INTEGER NOT NULL REFERENCES mailbox (id),
  seq INTEGER NOT NULL CHECK (seq >= 1),
  slot INTEGER NOT NULL CHECK (slot >= 0),
  message INTEGER NOT NULL REFERENCES message (seq),
  PRIMARY KEY (mailbox, seq, slot)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_of_message ON delivery (message);

CREATE TABLE notice (
  mailbox INTEGER NOT NULL REFERENCES mailbox (id),
  seq INTEGER NOT NULL CHECK (seq >= 1),
  written_ms INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  check_sum BLOB NOT NULL CHECK (length(check_sum) = 16),
  PRIMARY KEY (mailbox, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE link (
  peer INTEGER PRIMARY KEY REFERENCES mailbox (id),
  out_epoch INTEGER NOT NULL,
  in_epoch INTEGER NOT NULL,
  in_through INTEGER NOT NULL,
  receipts_in_epoch INTEGER NOT NULL,
  receipts_in_through INTEGER NOT NULL,
  acked_through INTEGER NOT NULL
) STRICT;

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
  created_ms INTEGER NOT NULL,
  -- 0: each device has its own mailbox, 1: all share the work queue.
  mode INTEGER NOT NULL DEFAULT 0 CHECK (mode IN (0, 1))
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
  message INTEGER NOT NULL REFERENCES message (seq),
  slots BLOB NOT NULL CHECK (length(slots) >= 2),
  rank INTEGER,
  hold_ms INTEGER NOT NULL CHECK (hold_ms >= 0),
  attempt INTEGER NOT NULL,
  kids BLOB,
  history BLOB, shown INTEGER NOT NULL DEFAULT 0 CHECK (shown IN (0, 1)),
  PRIMARY KEY (mailbox, seq),
  CHECK (rank IS NULL OR hold_ms = 0)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_of_message ON delivery (message);

CREATE INDEX delivery_ready ON delivery (mailbox, rank, seq) WHERE rank IS NOT NULL;

CREATE INDEX delivery_held ON delivery (hold_ms) WHERE hold_ms > 0;

CREATE TABLE notice (
  mailbox INTEGER NOT NULL REFERENCES mailbox (id),
  seq INTEGER NOT NULL CHECK (seq >= 1),
  written_ms INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  check_sum BLOB NOT NULL CHECK (length(check_sum) = 16), kind INTEGER NOT NULL DEFAULT 3,
  PRIMARY KEY (mailbox, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  count INTEGER NOT NULL CHECK (count > 0),
  leaves BLOB NOT NULL
) STRICT;

CREATE TABLE link (
  peer INTEGER PRIMARY KEY REFERENCES mailbox (id),
  out_epoch INTEGER NOT NULL,
  in_epoch INTEGER NOT NULL,
  in_through INTEGER NOT NULL,
  receipts_in_epoch INTEGER NOT NULL,
  receipts_in_through INTEGER NOT NULL,
  acked_through INTEGER NOT NULL
) STRICT;

CREATE TABLE subscription (
  node TEXT NOT NULL,
  pattern TEXT NOT NULL,
  address TEXT NOT NULL,
  head TEXT NOT NULL,
  client_node TEXT NOT NULL,
  kid BLOB NOT NULL CHECK (length(kid) = 16),
  since_ms INTEGER NOT NULL,
  PRIMARY KEY (node, pattern, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX subscription_by_head ON subscription (node, head, address);

CREATE INDEX subscription_of_client ON subscription (address);

CREATE INDEX subscription_of_node ON subscription (client_node);

CREATE TABLE retain (
  node TEXT NOT NULL,
  topic TEXT NOT NULL,
  address TEXT NOT NULL,
  head TEXT NOT NULL,
  client_node TEXT NOT NULL,
  PRIMARY KEY (node, topic, address)
) STRICT, WITHOUT ROWID;

CREATE INDEX retain_of_client ON retain (address);

CREATE INDEX retain_of_node ON retain (client_node);

CREATE TABLE template (
  name TEXT NOT NULL,
  version INTEGER NOT NULL CHECK (version >= 1),
  author TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  document BLOB NOT NULL,
  check_sum BLOB NOT NULL CHECK (length(check_sum) = 16),
  PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE late_word (
  dedupe BLOB NOT NULL CHECK (length(dedupe) = 32),
  mailbox INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  heard INTEGER NOT NULL CHECK (heard IN (0, 1)),
  PRIMARY KEY (dedupe, mailbox)
) STRICT, WITHOUT ROWID;

CREATE INDEX late_word_by_expiry ON late_word (expires_ms);

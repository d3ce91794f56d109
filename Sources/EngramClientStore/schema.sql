CREATE TABLE account (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  address TEXT NOT NULL,
  identity BLOB NOT NULL CHECK (length(identity) = 32),
  kid BLOB NOT NULL CHECK (length(kid) = 16),
  node_id BLOB NOT NULL CHECK (length(node_id) = 32),
  endpoint TEXT NOT NULL,
  server_name TEXT NOT NULL,
  certificate BLOB NOT NULL,
  device_list BLOB NOT NULL,
  registration BLOB,
  accepted_ttl_ms INTEGER NOT NULL CHECK (accepted_ttl_ms > 0),
  purged_through_ms INTEGER NOT NULL DEFAULT 0,
  history_ms INTEGER NOT NULL DEFAULT 7776000000 CHECK (history_ms >= 0),
  indexed_through INTEGER NOT NULL DEFAULT 0,
  last_purge_ms INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE alarm (
  id INTEGER PRIMARY KEY,
  kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 5),
  at_ms INTEGER NOT NULL,
  address TEXT NOT NULL,
  kid BLOB CHECK (kid IS NULL OR length(kid) = 16),
  envelope BLOB CHECK (envelope IS NULL OR length(envelope) = 32),
  code INTEGER NOT NULL,
  low INTEGER NOT NULL DEFAULT 0,
  high INTEGER NOT NULL DEFAULT 0,
  resolved_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX alarm_once ON alarm (
  kind, address, ifnull(kid, x''), ifnull(envelope, x''), low, high
);
CREATE TABLE chain_in (
  kid BLOB NOT NULL CHECK (length(kid) = 16),
  seq INTEGER NOT NULL CHECK (seq > 0),
  envelope BLOB NOT NULL CHECK (length(envelope) = 32),
  previous BLOB NOT NULL CHECK (length(previous) = 32),
  expires_ms INTEGER NOT NULL,
  stub INTEGER NOT NULL DEFAULT 0 CHECK (stub IN (0, 1)),
  PRIMARY KEY (kid, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE chain_out (
  kid BLOB PRIMARY KEY CHECK (length(kid) = 16),
  next_seq INTEGER NOT NULL CHECK (next_seq > 1),
  previous BLOB NOT NULL CHECK (length(previous) = 32)
) STRICT, WITHOUT ROWID;
CREATE TABLE chain_sent (
  kid BLOB NOT NULL CHECK (length(kid) = 16),
  seq INTEGER NOT NULL CHECK (seq > 0),
  envelope BLOB NOT NULL CHECK (length(envelope) = 32),
  expires_ms INTEGER NOT NULL,
  PRIMARY KEY (kid, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE device (
  kid BLOB PRIMARY KEY CHECK (length(kid) = 16),
  address TEXT NOT NULL,
  certificate BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE device_list (
  address TEXT PRIMARY KEY,
  identity BLOB NOT NULL CHECK (length(identity) = 32),
  version INTEGER NOT NULL,
  list BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE directory (
  address TEXT PRIMARY KEY,
  answer BLOB NOT NULL,
  issued_ms INTEGER NOT NULL,
  fetched_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE enrolment (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  approver BLOB NOT NULL CHECK (length(approver) = 16),
  place TEXT NOT NULL
) STRICT;
CREATE TABLE history (
  row INTEGER PRIMARY KEY AUTOINCREMENT,
  envelope_id BLOB NOT NULL UNIQUE CHECK (length(envelope_id) = 32),
  message_id BLOB NOT NULL CHECK (length(message_id) = 16),
  is_own INTEGER NOT NULL CHECK (is_own IN (0, 1)),
  sender TEXT NOT NULL,
  sender_kid BLOB NOT NULL CHECK (length(sender_kid) = 16),
  chain_seq INTEGER NOT NULL,
  thread BLOB NOT NULL CHECK (length(thread) = 16),
  parent BLOB CHECK (parent IS NULL OR length(parent) = 32),
  type INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  kept_ms INTEGER NOT NULL,
  head BLOB NOT NULL,
  content BLOB
) STRICT;
CREATE INDEX history_bodies ON history (kept_ms) WHERE content IS NOT NULL;
CREATE INDEX history_kept ON history (kept_ms);
CREATE INDEX history_thread ON history (thread, row);
CREATE VIRTUAL TABLE history_text USING fts5 (words, facets, detail = column, tokenize = 'ascii');
CREATE TABLE inbox (
  row INTEGER PRIMARY KEY,
  envelope_id BLOB NOT NULL UNIQUE CHECK (length(envelope_id) = 32),
  seq INTEGER NOT NULL,
  sender TEXT NOT NULL,
  sender_kid BLOB NOT NULL CHECK (length(sender_kid) = 16),
  message_id BLOB NOT NULL CHECK (length(message_id) = 16),
  thread BLOB NOT NULL CHECK (length(thread) = 16),
  parent BLOB CHECK (parent IS NULL OR length(parent) = 32),
  type INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  received_ms INTEGER NOT NULL,
  after_gap INTEGER NOT NULL CHECK (after_gap IN (0, 1)),
  receipt BLOB,
  settled INTEGER NOT NULL DEFAULT 0 CHECK (settled IN (0, 1)),
  UNIQUE (sender, sender_kid, message_id)
) STRICT;
CREATE TABLE leased (
  envelope_id BLOB PRIMARY KEY CHECK (length(envelope_id) = 32)
) STRICT, WITHOUT ROWID;
CREATE TABLE node_pin (
  name TEXT PRIMARY KEY,
  node_id BLOB NOT NULL CHECK (length(node_id) = 32),
  first_seen_ms INTEGER NOT NULL,
  pending BLOB CHECK (pending IS NULL OR length(pending) = 32)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
  row INTEGER PRIMARY KEY,
  message_id BLOB NOT NULL UNIQUE CHECK (length(message_id) = 16),
  envelope_id BLOB NOT NULL UNIQUE CHECK (length(envelope_id) = 32),
  state INTEGER NOT NULL CHECK (state BETWEEN 1 AND 4),
  code INTEGER NOT NULL DEFAULT 0,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  envelope BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_waiting ON outbox (row) WHERE state = 1;
CREATE TABLE peer (
  address TEXT PRIMARY KEY,
  identity BLOB NOT NULL CHECK (length(identity) = 32),
  first_seen_ms INTEGER NOT NULL,
  approved_ms INTEGER,
  pending BLOB CHECK (pending IS NULL OR length(pending) = 32)
) STRICT, WITHOUT ROWID;
CREATE TABLE prekey (
  id BLOB PRIMARY KEY CHECK (length(id) = 16),
  kind INTEGER NOT NULL CHECK (kind IN (1, 2)),
  secret BLOB NOT NULL,
  certified BLOB NOT NULL,
  not_before_ms INTEGER NOT NULL,
  not_after_ms INTEGER NOT NULL,
  erase_ms INTEGER NOT NULL,
  published INTEGER NOT NULL CHECK (published IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE TABLE queued (
  row INTEGER PRIMARY KEY,
  message_id BLOB NOT NULL UNIQUE CHECK (length(message_id) = 16),
  content BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  code INTEGER NOT NULL
) STRICT;
CREATE TABLE receipt (
  envelope_id BLOB NOT NULL CHECK (length(envelope_id) = 32),
  recipient TEXT NOT NULL,
  recipient_kid BLOB NOT NULL,
  state INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  role INTEGER NOT NULL,
  issuer TEXT NOT NULL,
  code INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  bytes BLOB NOT NULL,
  PRIMARY KEY (envelope_id, issuer, recipient, recipient_kid, state, attempt)
) STRICT, WITHOUT ROWID;
CREATE TABLE retained (
  topic TEXT PRIMARY KEY,
  content BLOB NOT NULL,
  due INTEGER NOT NULL DEFAULT 0 CHECK (due IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE TABLE retained_served (
  topic TEXT NOT NULL,
  address TEXT NOT NULL,
  PRIMARY KEY (topic, address)
) STRICT, WITHOUT ROWID;
CREATE TABLE schedule (
  row INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
  plan BLOB NOT NULL,
  content BLOB NOT NULL,
  created_ms INTEGER NOT NULL,
  through_ms INTEGER NOT NULL,
  sent_ms INTEGER,
  code INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE stub_exchange (
  kid BLOB PRIMARY KEY CHECK (length(kid) = 16),
  address TEXT NOT NULL,
  asked_ms INTEGER NOT NULL DEFAULT 0,
  asks INTEGER NOT NULL DEFAULT 0,
  answered_ms INTEGER NOT NULL DEFAULT 0,
  owed BLOB
) STRICT, WITHOUT ROWID;
CREATE TABLE taken (
  envelope_id BLOB PRIMARY KEY CHECK (length(envelope_id) = 32),
  kid BLOB NOT NULL CHECK (length(kid) = 16)
) STRICT, WITHOUT ROWID;

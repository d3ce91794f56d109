internal import GRDB

/// How the connections are set up, with the reason for every number.
enum Tuning {
  /// The file system's and the page cache's own unit. Deduplication keys land on random index pages, so
  /// larger pages mean more bytes logged per message.
  static let pageBytes = 4_096
  /// Pages in the log before a commit moves them into the database file.
  static let checkpointPages = 4_000
  /// What the log file is cut back to after a checkpoint.
  static let journalBytesMax = 64 << 20
  /// Page cache per connection: the upper levels and hot leaves of the deduplication index stay in memory.
  static let cacheKiB = 16 << 10
  /// How long a checkpoint waits for a foreign reader, such as an operator's `sqlite3` shell.
  static let busySeconds = 5.0

  static func configuration(readers: Int) -> Configuration {
    var configuration = Configuration()
    configuration.maximumReaderCount = readers
    configuration.busyMode = .timeout(busySeconds)
    configuration.foreignKeysEnabled = true
    configuration.persistentReadOnlyConnections = true
    configuration.prepareDatabase { db in
      // The page size counts only while the file is empty.
      try db.execute(
        sql: """
          PRAGMA page_size = \(pageBytes);
          PRAGMA secure_delete = ON;
          PRAGMA trusted_schema = OFF;
          PRAGMA cell_size_check = ON;
          PRAGMA cache_size = -\(cacheKiB);
          PRAGMA wal_autocheckpoint = \(checkpointPages);
          PRAGMA journal_size_limit = \(journalBytesMax);
          """)
    }
    return configuration
  }

  /// Reads back what durability and wiping rest on; a build of SQLite may ignore a pragma silently.
  static func requireDurable(_ db: Database, synchronous: Synchronous) throws {
    let held =
      try Int64.fetchOne(db, sql: "PRAGMA synchronous") == synchronous.rawValue
      && String.fetchOne(db, sql: "PRAGMA journal_mode") == "wal"
      && Int64.fetchOne(db, sql: "PRAGMA foreign_keys") == 1
      && Int64.fetchOne(db, sql: "PRAGMA secure_delete") == 1
    guard held else { throw StoreError.notDurable }
  }
}

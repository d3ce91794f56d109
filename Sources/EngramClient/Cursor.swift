internal import EngramCore
internal import EngramCrypto

/// Where a listing goes on: positions in the history, bound to what was asked. Not secret, not authenticated:
/// it is only ever given back to the home that made it.
struct Cursor: Equatable {
  /// The newest row when the listing began.
  var horizon: Int64
  /// What follows lies below this row.
  var below: Int64

  /// Tells listings apart.
  private static func tag(_ query: [UInt8]) -> ArraySlice<UInt8> { tagged("cursor", query[...]).bytes.prefix(8) }

  func text(for query: [UInt8]) -> String {
    base64URLEncode(
      fields {
        $0.field(UInt64(bitPattern: horizon))
        $0.field(UInt64(bitPattern: below))
        $0.field(Self.tag(query))
      })
  }

  /// - Throws: `bad-cursor` for one of another listing.
  init(parsing text: String, for query: [UInt8]) throws {
    guard let bytes = base64URLDecode(text),
      let cursor = try? parse(
        bytes[...],
        { (r) throws(CodecError) in
          let (horizon, below): (UInt64, UInt64) = (try r.integer(), try r.integer())
          guard try r.field(max: 8).elementsEqual(Self.tag(query)) else { throw .nonCanonical }
          return Cursor(horizon: Int64(clamping: horizon), below: Int64(clamping: below))
        })
    else {
      throw EngramError(
        .badInput, name: "bad-cursor", "this cursor does not belong to this listing",
        hint: "give the cursor of the page before, with the same filters")
    }
    self = cursor
  }

  init(horizon: Int64, below: Int64) { (self.horizon, self.below) = (horizon, below) }
}

package final class Store: Sendable {}

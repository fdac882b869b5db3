import Core
import Testing

@testable import Launch

@Suite struct ServiceLockTests {
  /// What F_GETLK tells of holders elsewhere is no process here: `kill` would take it for a group, such as our own.
  @Test(arguments: [0, -1, -4711, Int32.min]) func holdersElsewhereAreNotSignalled(_ told: Int32) {
    let error = #expect(throws: FusionRouteError.self) { try ServiceLock.pid(told, path: "/state/up.lock") }
    #expect(error?.code == .unavailable)
    #expect(
      error?.message.hasPrefix("/state/up.lock is held by a process of another machine or container") == true,
      "\(String(describing: error))")
  }

  @Test func holdersHereAre() throws { #expect(try ServiceLock.pid(4711, path: "/state/up.lock") == 4711) }
}

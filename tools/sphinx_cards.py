"""Sphinx extension: the reference cards, made from the docstrings, signatures and runs of the code.

What the cards of schedules and of optimizers have in common is in card_parts, the rest in
schedule_cards and optimizer_cards.
"""

import optimizer_cards
import schedule_cards


def setup(app):
    app.add_directive("schedules", schedule_cards.Schedules)
    app.add_directive("schedule-overview", schedule_cards.Overview)
    app.add_directive("schedule-names", schedule_cards.Names)
    app.add_directive("optimizers", optimizer_cards.Optimizers)
    app.add_directive("optimizer-overview", optimizer_cards.Overview)
    app.add_directive("optimizer-names", optimizer_cards.Names)
    return {"version": "1", "parallel_read_safe": True}

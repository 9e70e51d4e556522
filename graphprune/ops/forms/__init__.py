"""Forms that take several operators: norms and shuffles in primitive operators, routers, experts one by one.

They are recognised before labelling, by what the operators are that exporters write.
"""

"""Pages from the templates beside this module."""

from typing import Any


def page(template: str, **values: Any) -> str:
    """The page of a file in templates, in which every value is shown as text unless it says it is markup.

    Args:
      template: the file's name.
      values: values for the template.

    Raises:
      jinja2.UndefinedError: the template uses something else.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mnist_jax.views"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)

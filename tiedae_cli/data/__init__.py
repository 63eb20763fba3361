"""Every source of data becomes the same thing: ``Splits`` of ``ItemSet``, in numpy."""

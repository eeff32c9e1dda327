"""The form of the site."""

from __future__ import annotations

from typing import ClassVar

from django import forms

from .models import Booking


class BookingForm(forms.ModelForm):
    class Meta:
        model = Booking
        fields: ClassVar = ["name", "email"]
        widgets: ClassVar = {"name": forms.TextInput(attrs={"autocomplete": "name"})}

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())
